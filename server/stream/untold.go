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

// look logs what there is to say of a stream's topics.
func (u *untold) look(ctx context.Context, c *Config, topics []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, topic := range topics {
		if len(u.said) >= mostUntold {
			return
		}
		first, _, _ := strings.Cut(topic, "/")
		if _, said := u.said[first]; said || c.Tells(topic) {
			continue
		}
		if u.said == nil {
			u.said = make(map[string]struct{})
		}
		u.said[strings.Clone(first)] = struct{}{} // and not the request that it is a part of
		c.Logger.LogAttrs(ctx, slog.LevelWarn, "a stream follows a topic that no template of the contract makes: nothing tells it but messages and other versions (told once for each first segment; docs/operations.md, Streams have something to tell)",
			slog.String("topic", topic))
	}
}
