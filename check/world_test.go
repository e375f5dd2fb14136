package check_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/server/hub"
)

// world is a database in memory with what makes Postgres hard to follow: a
// commit has its position in the log some time before others see it, and a later
// one may be seen earlier. It is the checker's Database, too.
type world struct {
	hub  *hub.Hub
	flaw flaw

	mu       sync.Mutex // guards all below
	end      uint64     // of the log
	log      []*commit  // those that the frontier hasn't passed
	messages map[string]message
	ids      int
}

type message struct{ conversation, body string }

type commit struct {
	told    freshet.Commit
	visible bool
}

const epoch = 7

func newWorld(flaw flaw) *world {
	w := &world{hub: hub.New(hub.Config{}), flaw: flaw, end: 1000, messages: map[string]message{}}
	w.hub.Begin(w.at(w.end))
	w.hub.Serve(w.at(w.end))
	return w
}

func (w *world) at(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: epoch, Position: position}
}

func (w *world) logEnd() freshet.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at(w.end)
}

// commit writes to the log, and returns when everybody sees it.
func (w *world) commit(ctx context.Context, conversations []string, change func()) freshet.Revision {
	w.mu.Lock()
	w.end += 8 * uint64(1+rand.IntN(8))
	c := &commit{told: freshet.Commit{Revision: w.at(w.end)}}
	for _, conversation := range conversations {
		c.told.Topics = append(c.told.Topics, topic(conversation))
	}
	w.log = append(w.log, c)
	if w.flaw == tellsEarly {
		w.hub.Publish(c.told)
	}
	w.mu.Unlock()
	delay := rand.N(2 * time.Millisecond)
	if rand.IntN(10) == 0 {
		delay = 5*time.Millisecond + rand.N(15*time.Millisecond)
	}
	pass(context.WithoutCancel(ctx), delay) // a commit once sent can't be taken back
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	c.visible = true
	for len(w.log) > 0 && w.log[0].visible {
		if w.flaw != tellsEarly {
			w.hub.Publish(w.log[0].told)
		}
		w.log = w.log[1:]
	}
	return c.told.Revision
}

// pass lets time pass: the delay is what is simulated.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func topic(conversation string) string { return "conversations/" + conversation + "/messages" }

// bodies are what is visible in a conversation.
func (w *world) bodies(conversation string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, m := range w.messages {
		if m.conversation == conversation {
			found = append(found, m.body)
		}
	}
	return found
}

// everything is all that is visible.
func (w *world) everything() map[string]message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.messages)
}

func (w *world) newID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("00000000-0000-7000-8000-%012d", w.ids)
}

// Session, Positions, Outcomes and Note make a world a check.Database.
func (w *world) Session(context.Context) (check.Session, error) { return session{w}, nil }

func (w *world) Positions(context.Context) (map[uint64]uint64, error) { return nil, nil }

func (w *world) Outcomes(context.Context, []check.Write) ([]check.Outcome, error) { return nil, nil }

func (w *world) Note() string { return "" }

type session struct{ w *world }

func (s session) Close() {}

func (s session) Write(ctx context.Context, write *check.Write, was []int, end check.Ending, now func() time.Duration) error {
	write.Outcome, write.Sent = check.RolledBack, now()
	defer func() { write.Done = now() }()
	if end.Rollback {
		return nil
	}
	var conversations []string
	for _, c := range write.Changes {
		for _, name := range []string{c.From, c.To} {
			if name != "" && !slices.Contains(conversations, name) {
				conversations = append(conversations, name)
			}
		}
	}
	pass(ctx, end.After)
	write.At = s.w.commit(ctx, conversations, func() {
		for i, c := range write.Changes {
			id := fmt.Sprintf("r%d of %s", c.Row, runOf(c))
			if old := s.w.messages[id]; c.From != "" && old.body != (check.Cell{Row: c.Row, Version: was[i]}).String() {
				panic("the writer doesn't know what it wrote")
			}
			if delete(s.w.messages, id); c.To != "" {
				s.w.messages[id] = message{c.To, c.Cell.String()}
			}
		}
	})
	write.Upto, write.Outcome = write.At, check.Committed
	return nil
}

func (s session) Read(_ context.Context, conversations []string) (map[string][]check.Cell, error) {
	held := map[string][]check.Cell{}
	for _, conversation := range conversations {
		for _, body := range s.w.bodies(conversation) {
			cell, err := check.ParseCell(body)
			if err != nil {
				return nil, err
			}
			held[conversation] = append(held[conversation], cell)
		}
		slices.SortFunc(held[conversation], func(a, b check.Cell) int { return cmp.Compare(a.Row, b.Row) })
	}
	return held, nil
}

// runOf tells the rows of runs on one world apart: check-<run>-<n>.
func runOf(c check.Change) string {
	return strings.Split(cmp.Or(c.From, c.To), "-")[1]
}
