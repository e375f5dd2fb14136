package freshet

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicBytes bounds a topic.
const MaxTopicBytes = 512

// CheckTopic reports whether s can be a topic: 1–512 bytes of valid UTF-8
// without control characters (so that CR, LF and NUL can't reach the wire).
// The error is a *TopicError.
func CheckTopic(s string) error {
	switch {
	case s == "":
		return &TopicError{Topic: s, Reason: "it is empty"}
	case len(s) > MaxTopicBytes:
		return &TopicError{Topic: s, Reason: fmt.Sprintf("it has %d bytes, at most %d are allowed", len(s), MaxTopicBytes)}
	case !utf8.ValidString(s):
		return &TopicError{Topic: s, Reason: "it is not valid UTF-8"}
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return &TopicError{Topic: s, Reason: "it contains a control character"}
		}
	}
	return nil
}

// TopicError says why a text is not a topic.
type TopicError struct{ Topic, Reason string }

func (e *TopicError) Error() string {
	return fmt.Sprintf("%q is not a topic: %s", clip(e.Topic), e.Reason)
}

// clip shortens a text from outside for an error message.
func clip(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// Pattern names a set of topics: a path in which the segment `*` stands for
// any one segment and `**` for any number of them, none included. It is the
// form of "all topics of a source" and of a grant. The zero value matches no
// topic.
type Pattern string

// Match reports whether topic is in the set. It does not allocate.
func (p Pattern) Match(topic string) bool {
	return p != "" && topic != "" && matchPath(string(p), topic, true, true)
}

// matchPath matches path segments; more and left say whether there is a
// segment left at all (an empty string may still be one empty segment).
func matchPath(pattern, topic string, more, left bool) bool {
	for more {
		segment, rest, next := strings.Cut(pattern, "/")
		if segment == "**" {
			if !next {
				return true
			}
			for {
				if matchPath(rest, topic, true, left) {
					return true
				}
				if !left {
					return false
				}
				_, topic, left = strings.Cut(topic, "/")
			}
		}
		if !left {
			return false
		}
		var head string
		head, topic, left = strings.Cut(topic, "/")
		if segment != "*" && segment != head {
			return false
		}
		pattern, more = rest, next
	}
	return !left
}
