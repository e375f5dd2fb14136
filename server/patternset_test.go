package server

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// A set matches what one of its patterns does, and nothing else.
func TestPatternSet(t *testing.T) {
	patterns := []freshet.Pattern{"a", "a/*", "a/b/c", "a/*/d", "*/x/*/y", "a/**/z", "b/*", "*/*/*/*/*"}
	topics := []string{"a/", "/", "a//d", "/x//y", "*", "a/*", "**"}
	words := []string{"a", "b", "c", "d", "x", "y", "z", "*"}
	for _, one := range words {
		topics = append(topics, one)
		for _, two := range words {
			topics = append(topics, one+"/"+two)
			for _, three := range words {
				topics = append(topics, one+"/"+two+"/"+three)
				for _, four := range words {
					topics = append(topics, one+"/"+two+"/"+three+"/"+four, one+"/"+two+"/"+three+"/"+four+"/a")
				}
			}
		}
	}
	for n := range len(patterns) + 1 {
		for _, some := range [][]freshet.Pattern{patterns[:n], patterns[n:]} {
			set := new(patternSet)
			for _, p := range some {
				set.add(p)
			}
			for _, topic := range topics {
				want := slices.ContainsFunc(some, func(p freshet.Pattern) bool { return p.Match(topic) })
				require.Equal(t, want, set.match(topic), "%q of %q", topic, some)
			}
		}
	}
}

// What a stream of 200 topics costs at its start, of a contract of 50 templates.
func BenchmarkPatternSet(b *testing.B) {
	set := new(patternSet)
	for i := range 50 {
		set.add(freshet.Pattern(fmt.Sprintf("projects/*/things%d/*", i)))
	}
	var topics []string
	for i := range 200 {
		topics = append(topics, fmt.Sprintf("projects/7/things%d/%d", i%50, i))
	}
	b.ReportAllocs()
	for range b.N {
		for _, topic := range topics {
			if !set.match(topic) {
				b.Fatal(topic)
			}
		}
	}
}
