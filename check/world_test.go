package check_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
	epoch    freshet.Epoch
	end      uint64    // of the log
	log      []*commit // those that the frontier hasn't passed
	commits  int
	lifetime int                // of the first epoch, in commits: then a second one begins
	messages map[string]message // by id
	known    map[string]bool    // topics that there ever were
	ids      int
}

type message struct{ conversation, body string }

type commit struct {
	told    freshet.Commit
	visible bool
}

const epoch = 7

func newWorld(flaw flaw) *world {
	w := &world{hub: hub.New(hub.Config{}), flaw: flaw, epoch: epoch, lifetime: 150, end: 1000, messages: map[string]message{}, known: map[string]bool{}}
	w.hub.Begin(w.at(w.end))
	w.hub.Serve(w.at(w.end))
	return w
}

func (w *world) at(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: w.epoch, Position: position}
}

func (w *world) logEnd() freshet.Revision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at(w.end)
}

// commit writes to the log, and returns when everybody sees it.
func (w *world) commit(ctx context.Context, topics []string, change func()) freshet.Revision {
	w.mu.Lock()
	w.end += 8 * uint64(1+rand.IntN(8))
	c := &commit{told: freshet.Commit{Revision: w.at(w.end), Topics: topics}}
	for _, topic := range topics {
		w.known[topic] = true
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
	if w.flaw == keepsForStrong {
		delay *= 10 // on a busy machine, too, somebody reads while a commit is held
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
	if w.commits++; w.commits >= w.lifetime && len(w.log) == 0 && w.epoch == epoch {
		w.epoch++
		w.hub.Begin(w.at(w.end))
		w.hub.Serve(w.at(w.end))
	}
	return c.told.Revision
}

// look is the watchdog's: something happened that the log doesn't show, so all
// topics are told.
func (w *world) look(ctx context.Context) {
	w.mu.Lock()
	topics := slices.Collect(maps.Keys(w.known))
	w.mu.Unlock()
	if w.flaw != noWatchdog {
		w.commit(ctx, topics, func() {})
	}
}

// topicsOf are those that a message's change from one place to another concerns.
func (w *world) topicsOf(id string, places ...string) []string {
	if w.flaw == forgetsOldPlace {
		places = places[len(places)-1:]
	}
	topics := []string{"messages", "conversations/-/messages"}
	for _, conversation := range places {
		if conversation != "" {
			topics = append(topics, topic(conversation), topic(conversation)+"/"+id)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
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

func (s session) Write(ctx context.Context, write *check.Write, how check.Manner, now func() time.Duration) error {
	write.Outcome, write.Sent = check.RolledBack, now()
	defer func() { write.Done = now() }()
	if how.Rollback {
		return nil
	}
	topics, change := s.changes(write, how)
	if s.w.flaw != ignoresEmitted {
		topics = append(topics, how.Emit...)
	}
	pass(ctx, how.After)
	write.At = s.w.commit(ctx, topics, change)
	write.Upto, write.Outcome = write.At, check.Committed
	if how.Unpublished {
		s.w.look(ctx)
	}
	return nil
}

// changes are what a transaction does, and the topics that it concerns.
func (s session) changes(write *check.Write, how check.Manner) (topics []string, change func()) {
	held := s.w.everything()
	after := map[string]*message{}
	for i, c := range write.Changes {
		var id string
		if i < len(how.IDs) {
			id = how.IDs[i]
		}
		for other, m := range held {
			if cell, _ := check.ParseCell(m.body); cell.Row == c.Row && m.conversation == c.From {
				if id = other; !how.Truncate && cell.Version != how.Was[i] {
					panic("the writer doesn't know what it wrote")
				}
			}
		}
		if after[id] = nil; c.To != "" {
			after[id] = &message{c.To, c.Cell.String()}
		}
		untold := s.w.flaw == ignoresCopy && how.Copy && c.From == "" || s.w.flaw == ignoresDelete && c.To == "" ||
			s.w.flaw == ignoresTruncate && how.Truncate || how.Unpublished
		if !untold {
			topics = append(topics, s.w.topicsOf(id, c.From, c.To)...)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics), func() {
		for id, m := range after {
			if delete(s.w.messages, id); m != nil {
				s.w.messages[id] = *m
			}
		}
	}
}

func (s session) Read(_ context.Context, conversations []string) (map[string][]check.Cell, error) {
	held := map[string][]check.Cell{}
	for _, m := range s.w.everything() {
		if !slices.Contains(conversations, m.conversation) {
			continue
		}
		cell, err := check.ParseCell(m.body)
		if err != nil {
			return nil, err
		}
		held[m.conversation] = append(held[m.conversation], cell)
	}
	for _, cells := range held {
		slices.SortFunc(cells, func(a, b check.Cell) int { return cmp.Compare(a.Row, b.Row) })
	}
	return held, nil
}
