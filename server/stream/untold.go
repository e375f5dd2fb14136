package stream

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// untold says of topics that streams follow that nothing in the contract tells them, as
// of a word that somebody has misspelled: such a stream begins like any other, and is
// silent for ever. They aren't refused, since a client of the next contract may come
// first, and whatever is in nobody's contract can be told by a message. Topics are
// the callers', so that each first segment is logged once, and no more than mostUntold.
type untold struct {
	mu   sync.Mutex // guards said
	said map[string]struct{}
}

const mostUntold = 20

// look logs what there is to say of a stream's topics. Thousands of streams begin together
// when a node starts, so they don't wait for each other here.
func (u *untold) look(ctx context.Context, c *Config, topics []string) {
	for _, topic := range topics {
		if !c.Tells(topic) && u.isNews(topic) {
			c.Logger.LogAttrs(ctx, slog.LevelWarn, "a stream follows a topic that no template of the contract makes: nothing tells it but messages and other versions (told once for each first segment; docs/operations.md, Streams have something to tell)",
				slog.String("topic", topic))
		}
	}
}

// isNews reports whether a topic is still to be logged; the next one like it isn't then.
func (u *untold) isNews(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, said := u.said[first]; said || len(u.said) >= mostUntold {
		return false
	}
	if u.said == nil {
		u.said = make(map[string]struct{})
	}
	u.said[strings.Clone(first)] = struct{}{} // and not the request that it is a part of
	return true
}
