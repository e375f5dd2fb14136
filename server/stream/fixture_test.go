package stream

import (
	"context"
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

func (r *recorder) invalidate(rev freshet.Revision, topics []string) error {
	if r.hold != nil {
		<-r.hold
	}
	return r.add(recorded{kind: "invalidate", rev: rev, topics: topics})
}

func (r *recorder) ready(rev freshet.Revision, topics int) error {
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
	go func() {
		defer session.close()
		done <- session.run(ctx, rec)
	}()
	return rec, done
}
