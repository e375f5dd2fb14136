package intercept

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func FuzzParseAtLeast(f *testing.F) {
	const low, high = "00000001-0000000000000002", "00000001-0000000000000003"
	for _, lines := range [][2]string{{low, high}, {low + ", " + high, ""}, {",\t,", " "}, {"1", low}, {strings.ToUpper(low), ""}, {low + ",\x00", ""}} {
		f.Add(lines[0], lines[1])
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		rev, err := parseAtLeast(http.Header{HeaderAtLeast: {first, second}})
		elements := strings.FieldsFunc(first+","+second, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		if err != nil {
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			require.NotEmpty(t, elements, "nothing asks for nothing")
			return
		}
		for _, element := range elements {
			one, err := freshet.ParseRevision(element)
			require.NoError(t, err, "one bad element makes the request invalid")
			require.Equal(t, rev, rev.Max(one), "the highest counts")
		}
	})
}

func FuzzMatches(f *testing.F) {
	const tag = `"0123456789abcdef0123456789abcdef"`
	for _, line := range []string{tag, "W/" + tag, "*", `"a", ` + tag, `"a,` + tag, tag + "x", ""} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		// A 304 for data that the caller hasn't would leave old data in place.
		if matches([]string{line}, tag) {
			require.True(t, strings.Contains(line, tag) || strings.Contains(line, "*"), "%q", line)
		}
	})
}

func FuzzRequestID(f *testing.F) {
	f.Add("abc-1")
	f.Add("a\r\nb")
	f.Fuzz(func(t *testing.T, id string) {
		if isHarmless(id) {
			require.LessOrEqual(t, len(id), 64)
			require.NotContains(t, id, "\n")
			require.Equal(t, id, strings.ToValidUTF8(strings.Map(func(r rune) rune {
				if r <= ' ' || r > '~' || strings.ContainsRune(`"'\=;,`, r) {
					return -1
				}
				return r
			}, id), ""))
		}
	})
}
