// Package claimtext says how a claim of a caller is written in a topic. Grants and
// the contract both ask it: a topic that a method takes out of a claim is the one
// that a pattern with the same claim allows.
package claimtext

import (
	"encoding/json"
	"math"
	"strconv"
)

// Of is the text of a string, an integer or a bool; "" for an empty string, and for
// all else. Whole numbers count as integers where no other number is written so: in a
// float64, below 2^53.
func Of(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return strconv.FormatInt(n, 10)
		}
		if f, err := v.Float64(); err == nil {
			return Of(f)
		}
	case float64:
		const exact = 1 << 53
		if v == math.Trunc(v) && math.Abs(v) < exact {
			return strconv.FormatInt(int64(v), 10)
		}
	}
	return ""
}
