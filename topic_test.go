package freshet

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckTopic(t *testing.T) {
	for _, good := range []string{"messages", "conversations/-/messages", "a", strings.Repeat("x", 512), "größe/ü", "a b"} {
		require.NoErrorf(t, CheckTopic(good), "%q", good)
	}
	for _, bad := range []string{"", strings.Repeat("x", 513), "a\nb", "a\rb", "a\x00b", "a\x7fb", "a\u0085b", "\xff"} {
		require.Errorf(t, CheckTopic(bad), "%q", bad)
	}
}

func TestPattern_matches(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		topic   string
		want    bool
	}{
		{"messages", "messages", true},
		{"messages", "messages/1", false},
		{"**", "anything/at/all", true},
		{"conversations/*/messages", "conversations/7/messages", true},
		{"conversations/*/messages", "conversations/-/messages", true},
		{"conversations/*/messages", "conversations/7/8/messages", false},
		{"conversations/*/messages", "conversations/7/messages/9", false},
		{"conversations/7/**", "conversations/7/messages/9", true},
		{"conversations/7/**", "conversations/7", true},
		{"conversations/7/**", "conversations/70", false},
		{"**/messages", "messages", true},
		{"**/messages", "a/b/messages", true},
		{"**/messages", "a/b/message", false},
		{"a/**/b/**/c", "a/x/b/y/z/c", true},
		{"a/**/b/**/c", "a/x/y/z/c", false},
		{"a/**/b", "a/b", true},
		{"*", "", false},
		{"", "", false},
		{"", "a", false},
		{"a/*", "a", false},
		{"a/*", "a/", true},
		{"a/**", "a/", true},
	} {
		require.Equalf(t, c.want, c.pattern.Match(c.topic), "%q %q", c.pattern, c.topic)
	}
}
