package claimtext

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		value any
		text  string
	}{
		{"acme", "acme"}, {"", ""}, {"a/b", "a/b"},
		{true, "true"}, {false, "false"},
		{7, "7"}, {int64(-7), "-7"}, {int64(math.MaxInt64), "9223372036854775807"},
		{7.0, "7"}, {math.Copysign(0, -1), "0"}, {7.5, ""}, {float64(1 << 53), ""}, {math.Inf(1), ""}, {math.NaN(), ""},
		{json.Number("7"), "7"}, {json.Number("7e2"), "700"}, {json.Number("0.5"), ""},
		{nil, ""}, {[]any{"a"}, ""}, {map[string]any{"a": "b"}, ""}, {[]byte("a"), ""}, {int32(7), ""},
	} {
		require.Equal(t, tt.text, Of(tt.value), "%T %v", tt.value, tt.value)
	}
}
