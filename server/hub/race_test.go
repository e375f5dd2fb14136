package hub

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// In these tests the commit at position p changes topic p%topics, so that what
// must be told by when can be computed anywhere.
const (
	raceTopics  = 7
	raceCommits = 4_000
)

func raceTopic(p uint64) string { return fmt.Sprintf("t/%d", p%raceTopics) }

// lastChange is the highest p ≤ rev that changes topic k.
func lastChange(k, rev uint64) uint64 {
	for p := rev; p > 0; p-- {
		if p%raceTopics == k {
			return p
		}
	}
	return 0
}

func TestHub_framesHoldUnderConcurrency(t *testing.T) {
	h := New(Config{MaxTopics: 5}) // fewer than topics: evictions all the time
	rev := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: p} }
	h.Begin(rev(1))
	h.Serve(rev(1))
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { follow(ctx, t, h) })
		readers.Go(func() {
			for ctx.Err() == nil {
				f := h.Frontier()
				k := f.Position % raceTopics
				if floor := h.Floor([]string{raceTopic(k)}); floor.Less(rev(lastChange(k, f.Position))) {
					t.Errorf("floor %v of topic %d below its change at frontier %v", floor, k, f)
					return
				}
				_ = h.Stats()
				h.WakeAll()
			}
		})
		readers.Go(func() {
			for p := uint64(2); h.Wait(ctx, rev(p)) == nil; p += 3 {
				if h.Frontier().Less(rev(p)) {
					t.Errorf("the wait for %d is over at %v", p, h.Frontier())
					return
				}
			}
		})
	}
	for p := uint64(2); p <= raceCommits; p++ {
		h.Publish(freshet.Commit{Revision: rev(p), Topics: []string{raceTopic(p)}})
	}
	cancel()
	readers.Wait()
}

// follow subscribes again and again (F15), with the since of the subscription
// before, or without.
func follow(ctx context.Context, t *testing.T, h *Hub) {
	topics := []string{raceTopic(1), raceTopic(4)}
	told := map[string]uint64{}
	var since Since
	for round := 0; ctx.Err() == nil; round++ {
		s, err := h.Subscribe(topics, since)
		if err != nil {
			t.Error(err)
			return
		}
		id := since.All
		for take := 0; take < 50 && ctx.Err() == nil; take++ {
			n := s.Take()
			if n.Frontier.Less(id) || len(n.Topics) > 0 && n.Revision.Less(id) {
				t.Errorf("ids go back: %+v after %v", n, id)
				return
			}
			if take == 0 && since.All.IsZero() {
				for _, topic := range topics {
					told[topic] = n.Frontier.Position // without a since there is no catch-up
				}
			}
			id = n.Frontier
			for _, topic := range n.Topics {
				told[topic] = max(told[topic], n.Revision.Position)
			}
			for _, k := range []uint64{1, 4} {
				if p := lastChange(k, id.Position); told[raceTopic(k)] < p {
					t.Errorf("change of topic %d at %d not told by %v", k, p, id)
					return
				}
			}
			select {
			case <-s.Wake():
			case <-ctx.Done():
			}
		}
		s.Close()
		since.All = id
		if round%3 == 2 {
			since = Since{}
		}
	}
}

// A subscription at every point of a sequence of commits ends current (F15).
func TestSubscribe_atEveryPointOfAHistory(t *testing.T) {
	const commits = 40
	for join := uint64(1); join <= commits; join++ {
		for since := uint64(0); since <= join; since++ {
			h := New(Config{})
			rev := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 1, Position: p} }
			h.Begin(rev(1))
			h.Serve(rev(1))
			var s *Subscription
			for p := uint64(1); p <= commits; p++ {
				if p > 1 {
					h.Publish(freshet.Commit{Revision: rev(p), Topics: []string{raceTopic(p)}})
				}
				if p == join {
					from := Since{}
					if since > 0 {
						from.All = rev(since)
					}
					s = subscribe(t, h, from, raceTopic(3))
				}
			}
			known := since
			if since == 0 {
				known = join
			}
			n := s.Take()
			if p := lastChange(3, commits); p > known {
				require.Equal(t, Notice{Topics: []string{raceTopic(3)}, Revision: rev(p), Frontier: rev(commits)}, n)
			} else {
				require.Empty(t, n.Topics)
			}
		}
	}
}
