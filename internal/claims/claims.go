// Package claims reads what a token says of its caller.
package claims

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-jose/go-jose/v4/json" // it refuses a name that is there twice
)

// Parse reads a JSON object, in which no name is there twice. Values are nil, bool,
// string, int64, float64, []any and map[string]any; whole numbers that an int64 holds
// are int64. Its errors quote what was read: they are not for others.
func Parse(text []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.SetNumberType(json.UnmarshalJSONNumber)
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) || claims == nil {
		return nil, errors.New("not one object")
	}
	for name, value := range claims {
		number, err := plain(value)
		if err != nil {
			return nil, err
		}
		claims[name] = number
	}
	return claims, nil
}

// plain turns numbers into int64, where they are whole and fit, or float64, in
// value and what is in it.
func plain(value any) (any, error) {
	switch value := value.(type) {
	case json.Number:
		if whole, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			return whole, nil
		}
		return strconv.ParseFloat(string(value), 64)
	case []any:
		for i := range value {
			one, err := plain(value[i])
			if err != nil {
				return nil, err
			}
			value[i] = one
		}
	case map[string]any:
		for name := range value {
			one, err := plain(value[name])
			if err != nil {
				return nil, err
			}
			value[name] = one
		}
	}
	return value, nil
}
