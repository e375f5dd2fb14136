package grants

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Caller is who asks. The zero value is somebody who isn't known. Claims are not to
// be changed.
type Caller struct {
	Issuer, Subject string
	Claims          map[string]any // as encoding/json has them
}

// isKnown tells callers from those to whom only `anonymous` applies.
func (c *Caller) isKnown() bool { return c.Issuer != "" || c.Subject != "" || len(c.Claims) > 0 }

// claims returns the claims in the types that expressions and patterns know. Who
// was told of without claims has at least its names.
func (c *Caller) claims() map[string]any {
	all, _ := plain(c.Claims).(map[string]any)
	if all == nil {
		all = make(map[string]any, 2)
	}
	for name, text := range map[string]string{"iss": c.Issuer, "sub": c.Subject} {
		if _, ok := all[name]; !ok && text != "" {
			all[name] = text
		}
	}
	return all
}

// plain copies a claim, in the types string, bool, int64, float64, []any,
// map[string]any and nil. Of other types nothing is known: they become nil.
func plain(v any) any {
	switch v := v.(type) {
	case string, bool, float64, int64:
		return v
	case int:
		return int64(v)
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	case []any:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = plain(element)
		}
		return list
	case []string:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = element
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, member := range v {
			object[name] = plain(member)
		}
		return object
	}
	return nil
}

// Digest names a caller with all that is known of it: two have the same just if
// issuer, subject and claims are the same. False: a claim is of a type that
// encoding/json doesn't make, so that nobody can say whether two are the same.
//
// All claims count, those of a single token too (exp, iat, nbf, jti), which a
// Principal's Scope leaves out: conditions and patterns may look at any of them, and a
// condition at all at once, so no rule can be proven not to. Each renewed token costs
// one decision for that.
func (c *Caller) Digest() (digest [sha256.Size]byte, ok bool) {
	var buf [1 << 10]byte
	b := appendText(buf[:0], c.Issuer)
	b = appendText(b, c.Subject)
	if b, ok = appendValue(b, c.Claims); !ok {
		return digest, false
	}
	return sha256.Sum256(b), true
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendValue appends a text that no other value has.
func appendValue(b []byte, v any) (_ []byte, ok bool) {
	switch v := v.(type) {
	case nil:
		return append(b, '0'), true
	case bool:
		return strconv.AppendBool(b, v), true
	case string:
		return appendText(append(b, 's'), v), true
	case json.Number:
		return appendText(append(b, 'j'), string(v)), true
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 'd'), math.Float64bits(v)), true
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v)), true
	case int:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v)), true
	case []string:
		b = binary.AppendUvarint(append(b, '['), uint64(len(v)))
		for _, element := range v {
			b = appendText(append(b, 's'), element)
		}
		return b, true
	case []any:
		b = binary.AppendUvarint(append(b, '['), uint64(len(v)))
		for _, element := range v {
			if b, ok = appendValue(b, element); !ok {
				return b, false
			}
		}
		return b, true
	case map[string]any:
		b = binary.AppendUvarint(append(b, '{'), uint64(len(v)))
		var few [24]string
		names := slices.AppendSeq(few[:0], maps.Keys(v))
		slices.Sort(names)
		for _, name := range names {
			if b, ok = appendValue(appendText(b, name), v[name]); !ok {
				return b, false
			}
		}
		return b, true
	}
	return b, false
}
