package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tokensOf spells a template out; a field named int… or bool… is of that kind.
func tokensOf(t testing.TB, text string) []token {
	parsed, err := parseTemplate(text)
	require.NoError(t, err)
	kinds := make([]kind, len(parsed.fields))
	for i, f := range parsed.fields {
		switch {
		case strings.HasPrefix(f, "int"):
			kinds[i] = kindInt
		case strings.HasPrefix(f, "bool"):
			kinds[i] = kindBool
		}
	}
	return parsed.tokens(kinds)
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"messages", "messages", true},
		{"messages", "message", false},
		{"messages", "messages/{id}", false},
		{"{x}", "messages", true},
		{"{x}", "-", false}, // a value - is %2D
		{"{x}", "%2D", true},
		{"{x}", "%2d", false}, // escapes are in upper case
		{"{x}", "%41", false}, // and only where needed
		{"{x}", "%20", true},
		{"{x}", "%", false},
		{"{x}", "%2", false},
		{"{x}", "%zz", false},
		{"{x}", "a b", false},
		{"{x}", "größe", false},
		{"{x}", "gr%C3%B6%C3%9Fe", true},
		{"{x}", "{y}", true},
		{"{x}", "a/b", false},
		{"{x}/b", "a/{y}", true},
		{"{x}/b", "a/c", false},

		{"{int}", "7", true},
		{"{int}", "-7", true},
		{"{int}", "0", true},
		{"{int}", "-0", false},
		{"{int}", "07", false},
		{"{int}", "-", false},
		{"{int}", "+7", false},
		{"{int}", "seven", false},
		{"{int}", "18446744073709551615", true},
		{"{int}", "18446744073709551616", false},
		{"{bool}", "true", true},
		{"{bool}", "t", false},
		{"{bool}", "{int}", false},
		{"{bool}", "{bool2}", true},
		{"{bool}", "{x}", true},

		{"{p=**}/messages", "conversations/{c}/messages", true},
		{"{p=**}/messages", "conversations/-/messages", true},
		{"{p=**}/messages", "conversations/{c}/messages/{id}", true}, // an id may be "messages"
		{"{p=**}/messages", "conversations/{c}/messages/{int}", false},
		{"{p=**}/messages", "messages", false}, // a path is never empty
		{"{p=**}/messages", "conversations/{c}", true},
		{"{p=**}/messages", "conversations/{c}/notes", false},
		{"{p=**}", "messages", true},
		{"{p=**}", "a/b/c/{d}", true},
		{"{p=**}", "{q=**}", true},
		{"{p=**}", "-", true}, // a path's wildcard stays
		{"{p=**}", "a/-/b", true},
		{"{p=**}", "größe", false}, // a path is escaped
		{"{p=**}", "a/größe", false},
		{"{p=**}/b", "größe/a/b", false},
		{"{p=**}", "a b/{x}", false},
		{"{p=**}", "a/gr%C3%B6%C3%9Fe", true},
		{"a/{p=**}", "{q=**}/b c", false},
		{"{p=**}", "{int}", true},
		{"{p=**}/a", "{q=**}/b", false},
		{"a/{p=**}", "b/{q=**}", false},
		{"a/{p=**}/c", "{q=**}/b/c", true},
		{"{p=**}/a/{q=**}", "x/a/y", true},
		{"{p=**}/a/{q=**}", "a/y", false},
		{"{p=**}/a/{q=**}", "x/a", false},
		{"{p=**}/a/{q=**}", "x/{y}/z", true},
		{"{p=**}/a/{q=**}/b", "x/a/b/c/b", true},
		{"{p=**}/a/{q=**}/b", "x/a/b/c", false},
	} {
		require.Equal(t, c.want, overlap(tokensOf(t, c.a), tokensOf(t, c.b)), "%s and %s", c.a, c.b)
		require.Equal(t, c.want, overlap(tokensOf(t, c.b), tokensOf(t, c.a)), "%s and %s", c.b, c.a)
	}
}

// overlap against its definition, on all small templates: two overlap if and
// only if one of all small topics belongs to both.
func TestOverlap_exhaustive(t *testing.T) {
	parts := []string{"a", "b", "{x}", "{p=**}"}
	var texts []string
	for _, one := range parts {
		texts = append(texts, one)
		for _, two := range parts {
			texts = append(texts, one+"/"+two)
			for _, three := range parts {
				texts = append(texts, one+"/"+two+"/"+three)
			}
		}
	}
	// Enough for any two templates of three segments, of which one may have to
	// stretch over the other.
	topics := []string{"a", "b", "c"}
	for start := 0; len(strings.Split(topics[start], "/")) < 5; start++ {
		for _, part := range []string{"a", "b", "c"} {
			topics = append(topics, topics[start]+"/"+part)
		}
	}
	belongs := make(map[string]map[string]bool)
	for _, text := range texts {
		belongs[text] = make(map[string]bool)
		for _, topic := range topics {
			if emits(strings.Split(text, "/"), strings.Split(topic, "/")) {
				belongs[text][topic] = true
			}
		}
	}
	// A field that stands twice is beyond overlap; {x} and {p=**} are distinct
	// fields where they stand twice here.
	for _, a := range texts {
		for _, b := range texts {
			want := false
			for topic := range belongs[a] {
				want = want || belongs[b][topic]
			}
			require.Equal(t, want, overlap(tokensOf(t, a), tokensOf(t, b)), "%s and %s", a, b)
		}
	}
}

// emits is the definition: whether a template can emit a topic of letters.
func emits(template, topic []string) bool {
	if len(template) == 0 || len(topic) == 0 {
		return len(template) == len(topic)
	}
	switch template[0] {
	case "{p=**}":
		return emits(template[1:], topic[1:]) || emits(template, topic[1:])
	case "{x}", topic[0]:
		return emits(template[1:], topic[1:])
	}
	return false
}
