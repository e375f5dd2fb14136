package check_test

import (
	"cmp"
	"context"
	"errors"
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
// one may be seen earlier. Every now and then it fails over, and loses what was
// committed last. It is the checker's Database, too.
type world struct {
	hub  *hub.Hub
	flaw flaw

	writing sync.RWMutex // read-locked by who writes, so that it fails over in between

	mu       sync.Mutex // guards all below
	epoch    freshet.Epoch
	end      uint64             // of the log
	log      []*commit          // those that the frontier hasn't passed
	commits  int                // of this epoch
	lifetime int                // of an epoch, in commits
	copied   map[string]message // what the standby has: older than messages; nil: nothing yet
	messages map[string]message // by id
	known    map[string]bool    // topics that there ever were
	ids      int
}

type message struct{ conversation, body string }

type commit struct {
	told    freshet.Commit
	visible bool
}

const (
	epoch  = 7  // the first
	behind = 15 // so many commits the standby is behind, about
)

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
	// What was committed after something that the standby has it may not have: so it has
	// nothing that was committed after something that others don't see yet.
	if w.commits++; w.commits >= w.lifetime-behind && len(w.log) == 0 && w.copied == nil {
		w.copied = maps.Clone(w.messages)
	}
	return c.told.Revision
}

// write is held by a write from its beginning to its end. Before one it fails over, if it
// is time to; not before a TRUNCATE, which names the rows that the checker knows of.
func (w *world) write(how check.Manner) (end func()) {
	if w.isDue() && !how.Truncate {
		w.failOver()
	}
	w.writing.RLock()
	return w.writing.RUnlock
}

func (w *world) isDue() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commits >= w.lifetime && w.copied != nil
}

func (w *world) failOver() {
	w.writing.Lock()
	defer w.writing.Unlock()
	if !w.isDue() {
		return // another has seen to it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages, w.copied, w.commits = w.copied, nil, 0
	w.epoch++
	w.hub.Begin(w.at(w.end))
	w.hub.Serve(w.at(w.end))
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
			topics = append(topics, topic(conversation), topic(conversation)+"/"+id, ownTopic(conversation))
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

// everything is all that is visible, and in which epoch.
func (w *world) everything() (map[string]message, freshet.Epoch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.messages), w.epoch
}

func (w *world) has(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.messages[id]
	return ok
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
	defer s.w.write(how)()
	topics, change, err := s.changes(write, how)
	if err != nil {
		return err
	}
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
func (s session) changes(write *check.Write, how check.Manner) (topics []string, change func(), err error) {
	held, _ := s.w.everything()
	after := map[string]*message{}
	for i, c := range write.Changes {
		var id string
		if i < len(how.IDs) {
			id = how.IDs[i]
		}
		_, found := held[id]
		found = found && c.From == ""
		for other, m := range held {
			cell, _ := check.ParseCell(m.body)
			if cell.Row == c.Row && m.conversation == c.From && (how.Truncate || cell.Version == how.Was[i]) {
				id, found = other, true
			}
		}
		if found == (c.From == "") && !how.Truncate {
			return nil, nil, errors.New("the row isn't as the writer left it")
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
	}, nil
}

func (s session) Read(_ context.Context, conversations []string) (check.Held, error) {
	messages, epoch := s.w.everything()
	held := map[string][]check.Cell{}
	for _, m := range messages {
		if !slices.Contains(conversations, m.conversation) {
			continue
		}
		cell, err := check.ParseCell(m.body)
		if err != nil {
			return check.Held{}, err
		}
		held[m.conversation] = append(held[m.conversation], cell)
	}
	for _, cells := range held {
		slices.SortFunc(cells, func(a, b check.Cell) int { return cmp.Compare(a.Row, b.Row) })
	}
	return check.Held{Epoch: epoch, Places: held}, nil
}
