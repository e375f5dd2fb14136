package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// What no template makes is followed like anything else, and logged once for each first
// segment; however many a client asks for, the log stays short.
func TestEvents_untold(t *testing.T) {
	log := new(testkit.Buffer)
	s := newSite(t, h1, Config{Logger: log.Logger(), Tells: func(topic string) bool { return topic == "player/7" }})
	lines := func() int { return strings.Count(log.String(), "level=WARN") }

	s.get(t, topicsQuery("player/7"), nil).expect("ready", at(100))
	require.Zero(t, lines(), log.String())
	for range 2 {
		s.get(t, topicsQuery("player/7", "playr/7", "playr/8", "player/7/x"), nil).expect("ready", at(100))
	}
	require.Equal(t, 2, lines(), log.String())
	require.Contains(t, log.String(), " topic=playr/7\n")
	require.Contains(t, log.String(), " topic=player/7/x\n")
	require.Contains(t, log.String(), "docs/operations.md, Streams have something to tell")

	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("made-up-%d/7", i))
	}
	s.get(t, topicsQuery(many...), nil).expect("ready", at(100))
	require.Equal(t, mostUntold, lines(), log.String())
}
