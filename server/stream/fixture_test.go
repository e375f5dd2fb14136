package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// recorder is an encoder that writes down what it gets, with the time since it
// was made.
type recorder struct {
	start time.Time
	fail  error
	hold  chan struct{} // when set, an invalidate waits here: a slow reader

	mu     sync.Mutex
	events []recorded
}

type recorded struct {
	kind    string
	rev     freshet.Revision
	topics  []string
	after   time.Duration
	lag     time.Duration
	nTopics int
}

func (r recorded) String() string {
	return fmt.Sprintf("%v %s %d %s", r.after, r.kind, r.rev.Position, strings.Join(r.topics, ","))
}

func (r *recorder) add(e recorded) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.after = time.Since(r.start)
	r.events = append(r.events, e)
	return r.fail
}

// blocked reports whether the next frame would wait.
func (r *recorder) blocked() bool {
	if r.hold == nil {
		return false
	}
	select {
	case <-r.hold:
		return false
	default:
		return true
	}
}

func (r *recorder) invalidate(rev freshet.Revision, topics []string, partial bool) error {
	if r.hold != nil {
		<-r.hold
	}
	return r.add(recorded{kind: "invalidate", rev: rev, topics: topics})
}

func (r *recorder) ready(rev freshet.Revision, topics int, expires time.Duration) error {
	return r.add(recorded{kind: "ready", rev: rev, nTopics: topics})
}

func (r *recorder) reset(rev freshet.Revision) error {
	return r.add(recorded{kind: "reset", rev: rev})
}

func (r *recorder) frontier(rev freshet.Revision, lag time.Duration) error {
	return r.add(recorded{kind: "frontier", rev: rev, lag: lag})
}

func (r *recorder) goodbye(rev freshet.Revision, lag time.Duration) error {
	return r.add(recorded{kind: "goodbye", rev: rev, lag: lag})
}

func (r *recorder) end(why *ending) error { return r.add(recorded{kind: why.reason}) }

func (r *recorder) all() []recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// log returns what came after the first n events, as text.
func (r *recorder) log(n int) []string {
	var lines []string
	for _, e := range r.all()[n:] {
		lines = append(lines, e.String())
	}
	return lines
}

// pass lets time go by, and everybody act on it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// fixture is a hub at position 100 of epoch 7, and a server on it.
type fixture struct {
	hub    *hub.Hub
	server *Server
	pumped bool // streams are outlets, without a goroutine
}

// bothWays runs a test with streams on a goroutine each, and with a pump.
func bothWays(t *testing.T, c Config, test func(*testing.T, *fixture)) {
	for name, pumped := range map[string]bool{"goroutine": false, "pump": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, c)
				f.pumped = pumped
				test(t, f)
			})
		})
	}
}

func newFixture(t testing.TB, c Config) *fixture {
	t.Helper()
	c.Hub = hub.New(hub.Config{})
	c.Hub.Begin(at(100))
	c.Hub.Serve(at(100))
	c.Hub.Current(time.Now())
	s, err := New(c)
	require.NoError(t, err)
	return &fixture{hub: c.Hub, server: s}
}

func (f *fixture) publish(position uint64, topics ...string) {
	f.hub.Publish(freshet.Commit{Revision: at(position), Topics: topics})
}

// stream runs a session on a recorder, and returns how it ends.
func (f *fixture) stream(ctx context.Context, t testing.TB, r *request) (*recorder, <-chan error) {
	t.Helper()
	session, refused := f.server.start(ctx, r)
	require.Nil(t, refused)
	rec := &recorder{start: time.Now()}
	done := make(chan error, 1)
	go func() { done <- f.drive(ctx, session, rec) }()
	return rec, done
}

// drive runs a session to its end, in either way.
func (f *fixture) drive(ctx context.Context, session *session, out encoder) error {
	if !f.pumped {
		defer session.close()
		return session.run(ctx, out)
	}
	return pumpTo(ctx, session, out)
}

// pumpTo makes an outlet of a session, whose link is an encoder that may block.
func pumpTo(ctx context.Context, session *session, out encoder) error {
	if err := session.begin(out); err != nil {
		session.close()
		return err
	}
	l := &testLink{out: out, ended: make(chan error, 1)}
	o := session.server.newOutlet(session, l)
	stop := context.AfterFunc(ctx, func() {
		o.hungUp.Store(true)
		o.wake()
	})
	defer stop()
	session.sub.Notify(o.wake)
	o.wake()
	if err := <-l.ended; !errors.Is(err, errHungUp) {
		return err
	}
	return ctx.Err()
}

// testLink hands events on to an encoder. While that would block, as a socket
// whose buffers are full, they are left for drain.
type testLink struct {
	out   encoder
	left  []func() error
	ended chan error
}

func (l *testLink) send(event func() error) error {
	slow, ok := l.out.(interface{ blocked() bool })
	if len(l.left) > 0 || ok && slow.blocked() {
		l.left = append(l.left, event)
		return nil
	}
	return event()
}

func (l *testLink) encoder(*pump) encoder { return l }
func (l *testLink) pending() bool         { return len(l.left) > 0 }
func (l *testLink) close()                {}

func (l *testLink) over(reason error, _ freshet.Revision) { l.ended <- reason }

func (l *testLink) drain() error {
	for _, event := range l.left {
		if err := event(); err != nil {
			return err
		}
	}
	l.left = nil
	return nil
}

func (l *testLink) finish() error { return l.send(func() error { return nil }) }

func (l *testLink) invalidate(rev freshet.Revision, topics []string, partial bool) error {
	return l.send(func() error { return l.out.invalidate(rev, topics, partial) })
}

func (l *testLink) ready(rev freshet.Revision, topics int, expires time.Duration) error {
	return l.send(func() error { return l.out.ready(rev, topics, expires) })
}

func (l *testLink) reset(rev freshet.Revision) error {
	return l.send(func() error { return l.out.reset(rev) })
}

func (l *testLink) frontier(rev freshet.Revision, lag time.Duration) error {
	return l.send(func() error { return l.out.frontier(rev, lag) })
}

func (l *testLink) end(why *ending) error {
	return l.send(func() error { return l.out.end(why) })
}

func (l *testLink) goodbye(rev freshet.Revision, lag time.Duration) error {
	return l.send(func() error { return l.out.goodbye(rev, lag) })
}
