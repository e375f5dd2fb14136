package server

import (
	"slices"
	"strings"

	"github.com/freshet-dev/freshet"
)

// patternSet tells whether one of many patterns matches a topic. It is a tree of their
// segments, so that it takes as long as the topic, and not as there are patterns: each
// stream that begins asks for each of its topics. The zero value is empty; once all are
// added it is safe for concurrent use.
type patternSet struct {
	root  patternNode
	paths []freshet.Pattern // those with a `**`, which are few
}

type patternNode struct {
	literals map[string]*patternNode
	any      *patternNode // below `*`
	ends     bool         // a pattern ends here
}

func (s *patternSet) add(p freshet.Pattern) {
	n := &s.root
	segments := strings.Split(string(p), "/")
	if slices.Contains(segments, "**") {
		s.paths = append(s.paths, p)
		return
	}
	for _, segment := range segments {
		if segment == "*" {
			if n.any == nil {
				n.any = new(patternNode)
			}
			n = n.any
			continue
		}
		if n.literals == nil {
			n.literals = make(map[string]*patternNode)
		}
		if n.literals[segment] == nil {
			n.literals[segment] = new(patternNode)
		}
		n = n.literals[segment]
	}
	n.ends = true
}

// match reports whether a pattern of the set matches a topic, as [freshet.Pattern.Match] has it.
func (s *patternSet) match(topic string) bool {
	return s.root.match(topic, true) || slices.ContainsFunc(s.paths, func(p freshet.Pattern) bool { return p.Match(topic) })
}

// match matches what is left of a topic; left says whether there is a segment at all.
func (n *patternNode) match(topic string, left bool) bool {
	if !left {
		return n.ends
	}
	head, rest, more := strings.Cut(topic, "/")
	if next := n.literals[head]; next != nil && next.match(rest, more) {
		return true
	}
	return n.any != nil && n.any.match(rest, more)
}
