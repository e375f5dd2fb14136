package wal_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// toldFeed is a feed that is told by teller's sink what that captures, or by the test.
type toldFeed struct {
	*wal.Feed
	*sink
	stop func() // Follow
}

func follow(t *testing.T, url string, adjust ...func(*wal.Config)) *toldFeed {
	t.Helper()
	to := newSink()
	config := wal.Config{URL: url, Slot: slotOf(t, url), Program: program(), Sink: to, Logger: testkit.Logger(t), WatchInterval: 200 * time.Millisecond, MaxLag: time.Second}
	for _, a := range adjust {
		a(&config)
	}
	feed, err := wal.New(config)
	require.NoError(t, err)
	f := &toldFeed{Feed: feed, sink: to}
	f.stop = f.during(t, feed.Follow)
	t.Cleanup(feed.Stop)
	f.await(t, "a session", func() bool { at, _, _ := f.Place(); return at.Epoch != 0 })
	return f
}

// during runs one of the feed's turns.
func (f *toldFeed) during(t *testing.T, run func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// told is what a holder tells of a stretch.
func (f *toldFeed) told(from, to uint64, commits ...freshet.Commit) wal.Told {
	at, incarnation, _ := f.Place()
	told := wal.Told{Epoch: at.Epoch, Incarnation: incarnation, Holder: 1, Previous: from, Position: to, Received: to}
	for _, c := range commits {
		told.Commits = append(told.Commits, wal.ToldCommit{Commit: c})
	}
	return told
}

// here is where the primary is.
func (f *toldFeed) here(t *testing.T) freshet.Revision {
	t.Helper()
	here, err := f.InsertPosition(testkit.Context(t))
	require.NoError(t, err)
	return here
}

// A feed that follows is moved by what it is told, in its own database's history, from
// where it is on: R1. It is ready, and current, by what it has seen of the primary itself.
func TestFollow_appliesWhatFits(t *testing.T) {
	url := database(t)
	var expected <-chan freshet.Commit
	f := follow(t, url, func(c *wal.Config) {
		c.BeforeTold = func(uint32, freshet.Commit) {
			require.Len(t, expected, 1, "the sink is about to know of it, and whoever expects it doesn't")
		}
	})
	require.ErrorContains(t, f.Ready(), "waiting for another one")
	here := f.here(t)
	at := func(position uint64) freshet.Revision {
		return freshet.Revision{Epoch: here.Epoch, Position: position}
	}
	begin := f.told(here.Position, here.Position)
	require.False(t, f.Apply(begin), "nothing is known that it could go on from")
	begin.Begin = true
	other := begin
	other.Epoch++
	require.False(t, f.Apply(other), "another epoch")
	other = begin
	other.Incarnation++
	require.False(t, f.Apply(other), "another run of it, or another database")
	require.Zero(t, f.Frontier())
	require.True(t, f.Apply(begin))
	require.Equal(t, here, f.Frontier())
	require.NoError(t, f.Ready())
	require.False(t, f.blind)

	p := here.Position
	require.False(t, f.Apply(f.told(p+1, p+9)), "R1: there is a gap")
	require.Equal(t, here, f.Frontier())
	var forget func()
	expected, forget = f.Expect(77)
	defer forget()
	next := f.told(p-100, p+10, freshet.Commit{Revision: at(p - 50), Topics: []string{"old"}}, freshet.Commit{Revision: at(p + 5), Topics: []string{"new"}})
	next.Commits[1].XID, next.Commits[1].Alone = 77, true
	require.True(t, f.Apply(next))
	require.Equal(t, at(p+10), f.Frontier())
	require.Equal(t, at(p+5), f.Floor([]string{"new"}))
	require.Equal(t, at(p+5), (<-expected).Revision)
	require.Len(t, f.all(), 1, "what was known isn't told again")

	// Nobody tells, and the primary goes on.
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('1', 'a', 'b')`)
	f.await(t, "it is behind", func() bool { return f.Ready() != nil && f.Lag() > time.Second })
	require.ErrorContains(t, f.Ready(), "behind the database")
	now := f.here(t)
	require.True(t, f.Apply(f.told(p+10, now.Position+1)))
	f.await(t, "it is current", func() bool { return f.Ready() == nil && f.Lag() < time.Second })
}

// Q3 across holders: what one has held isn't let go because another one doesn't hold it,
// before all of it was told at a position above.
func TestFollow_quarantineOfAnotherHolder(t *testing.T) {
	f := follow(t, database(t))
	here := f.here(t)
	p := here.Position
	begin := f.told(p, p)
	begin.Begin, begin.Sequence, begin.Quarantine = true, 3, []freshet.Pattern{"messages"}
	require.True(t, f.Apply(begin))
	held := func() bool { return f.Hub.Quarantined([]string{"messages"}) }
	require.True(t, held())

	old := f.told(p, p+1)
	old.Sequence = 2
	require.True(t, f.Apply(old))
	require.True(t, held(), "said before")
	other := f.told(p, p+1)
	other.Holder = 2
	require.True(t, f.Apply(other))
	require.True(t, held(), "at no position above")
	other = f.told(p+1, p+20)
	other.Holder = 2
	require.True(t, f.Apply(other))
	require.False(t, held())
	require.Equal(t, p+20, f.Floor([]string{"messages"}).Position)

	again := f.told(p+20, p+30)
	again.Holder, again.Sequence, again.Quarantine = 2, 1, []freshet.Pattern{"messages"}
	require.True(t, f.Apply(again))
	require.True(t, held())
	again = f.told(p+30, p+40)
	again.Holder, again.Sequence = 2, 2
	require.True(t, f.Apply(again))
	require.False(t, held(), "whoever has held it says so")
	require.Equal(t, p+20, f.Floor([]string{"messages"}).Position, "and has told it, if there was anything to tell")
}

// From following to capturing and back nothing begins anew, and what is in quarantine
// stays there until this node has told it.
func TestFollow_takesTurnsWithCapture(t *testing.T) {
	url := database(t)
	holder := start(t, url).live(t)
	f := follow(t, url, func(c *wal.Config) { c.MaxLag = time.Minute }) // between two turns nobody decodes
	here := holder.caughtUp(t)
	begin := f.told(here.Position, here.Position)
	begin.Begin, begin.Quarantine = true, []freshet.Pattern{"conversations/*/messages"}
	require.True(t, f.Apply(begin))
	f.await(t, "it serves", func() bool {
		at, _, _ := f.Place()
		f.Apply(f.told(at.Position, f.here(t).Position))
		return f.Ready() == nil
	})
	begun := len(f.begun)
	held := []string{"conversations/7/messages"}
	require.True(t, f.Hub.Quarantined(held))
	f.stop()

	require.Never(t, func() bool { return f.Ready() != nil }, 50*time.Millisecond, 10*time.Millisecond, "nothing has gone wrong")
	asked := make(chan freshet.Revision, 1)
	go func() { // between two turns it waits
		rev, err := f.InsertPosition(context.Background())
		if err == nil {
			asked <- rev
		}
		close(asked)
	}()
	stop := f.during(t, f.Capture)
	require.NotZero(t, <-asked)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) values ('1', 'a', 'b')`)
	topic := f.awaitTopic(t, "conversations/1/messages")
	require.Greater(t, topic.Revision.Position, here.Position)
	f.await(t, "the end of the quarantine", func() bool { return !f.Hub.Quarantined(held) })
	require.Greater(t, f.Floor(held).Position, here.Position, "Q3: it was told before")
	require.Len(t, f.begun, begun)
	require.Equal(t, here.Epoch, f.Frontier().Epoch)
	stop()

	f.during(t, f.Follow)
	f.await(t, "it follows", func() bool { _, _, begun := f.Place(); return begun })
	require.NoError(t, f.Ready())
	now, frontier := f.here(t), f.Frontier()
	require.True(t, f.Apply(f.told(frontier.Position, now.Position)))
	require.Len(t, f.begun, begun)
}

// A restart begins an epoch, whoever finds out first; what was served until then is over
// at once.
func TestFollow_anotherEpoch(t *testing.T) {
	server := testkit.NewServer(t, nil)
	url := server.Template(t, "wal", prepare)
	f := follow(t, url)
	here := f.here(t)
	begin := f.told(here.Position, here.Position)
	begin.Begin = true
	require.True(t, f.Apply(begin))
	require.False(t, f.Frontier().IsZero())
	server.Restart(t)
	f.await(t, "the next epoch", func() bool { at, _, _ := f.Place(); return at.Epoch > here.Epoch })
	require.True(t, f.Frontier().IsZero())
	_, _, begun := f.Place()
	require.False(t, begun)
	require.False(t, f.Apply(begin))

	// The same one that a node finds that captures.
	f.stop()
	f.during(t, f.Capture)
	at := f.here(t)
	f.await(t, "it captures", func() bool { return f.Ready() == nil })
	require.Equal(t, at.Epoch, f.Frontier().Epoch)
}

// One has the seat. A server that doesn't hear from it gives it to another one.
func TestSeat(t *testing.T) {
	url := database(t)
	proxy := testkit.NewProxy(t, url)
	one, other := follow(t, url, func(c *wal.Config) { c.URL = proxy.URL() }), follow(t, url)
	changed := make(chan struct{}, 100)
	change := func() { changed <- struct{}{} }
	first, second := one.NewSeat(change), other.NewSeat(change)
	first.Want(true)
	one.during(t, first.Run)
	<-changed
	require.True(t, first.Held())
	second.Want(true)
	other.during(t, second.Run)
	require.Never(t, second.Held, 3*seatInterval, testTick)

	first.Want(false)
	<-changed
	<-changed
	require.True(t, second.Held())
	require.False(t, first.Held())
	first.Want(true)
	second.Want(false)
	<-changed
	<-changed
	require.True(t, first.Held())

	second.Want(true)
	proxy.Pause() // as one that is paused: nothing is heard of it, and it hears nothing
	require.Eventually(t, second.Held, testTimeout, testTick)
	proxy.Resume()
	require.Eventually(t, func() bool { return !first.Held() }, testTimeout, testTick)
	require.True(t, second.Held())
}

const seatInterval = 250 * time.Millisecond
