package reuse

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
)

const epoch = 7

func at(position uint64) freshet.Revision {
	return freshet.Revision{Epoch: epoch, Position: position}
}

// strong is what a strong read asks for.
var strong freshet.Revision

const name = "conversations/c/messages/01890a5d-ac96-774b-bcce-b302099a8057"

// rig is Reads over a real hub at frontier 100, and a GetMessage whose query the
// tests set.
type rig struct {
	hub    *hub.Hub
	made   *Reads
	method *contract.Method
	alone  bool
	get    func(context.Context) (*messagesv1.GetMessageResponse, error)
	log    *testkit.Buffer
	// replayed says what a query's answer holds; nil: all of the frontier.
	replayed func(Since) freshet.Revision
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	program, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	require.NoError(t, err)
	r := &rig{
		hub: hub.New(hub.Config{}), log: new(testkit.Buffer),
		get: func(context.Context) (*messagesv1.GetMessageResponse, error) {
			return new(messagesv1.GetMessageResponse), nil
		},
	}
	r.method = program.Method(messagesv1connect.MessageServiceGetMessageProcedure)
	r.hub.Begin(at(50))
	r.hub.Serve(at(100))
	r.hub.Current(time.Now().Add(time.Hour)) // no lag
	cfg := Config{Node: r.hub, Logger: slog.New(slog.NewTextHandler(r.log, nil))}
	if change != nil {
		change(&cfg)
	}
	r.made = New(cfg)
	return r
}

// waitFor fails the test when ch isn't ready in time.
func waitFor[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		require.FailNow(t, "timed out waiting for "+what)
		panic("unreachable")
	}
}

// queries is a handler whose n-th call answers n, when it is let.
type queries struct {
	calls   atomic.Int64
	began   chan int64    // one per call
	release chan struct{} // one per call; closed: all
	ended   chan error    // what cut a call short
}

func (r *rig) queries() *queries {
	q := &queries{began: make(chan int64, 100), release: make(chan struct{}), ended: make(chan error, 100)}
	r.get = func(ctx context.Context) (*messagesv1.GetMessageResponse, error) {
		n := q.calls.Add(1)
		q.began <- n
		select {
		case <-q.release:
			return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: strconv.FormatInt(n, 10)}}, nil
		case <-ctx.Done():
			q.ended <- ctx.Err()
			return nil, ctx.Err()
		}
	}
	return q
}

// outcome is the end of one read.
type outcome struct {
	body  string
	stamp freshet.Revision
	from  Source
	err   error
}

// topicsOf returns what the interceptors have found out of the request before.
func topicsOf(m *contract.Method, req proto.Message) []string {
	if m == nil {
		return nil
	}
	topics, _ := m.Topics(req) // none, if it can't be told
	return topics
}

// read starts a read in the background.
func (r *rig) read(ctx context.Context, user string, atLeast freshet.Revision) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		req := &messagesv1.GetMessageRequest{Name: name}
		a, err := r.made.Do(ctx, Read{
			Method: r.method, Request: req, Topics: topicsOf(r.method, req), Scope: user, AtLeast: atLeast, Alone: r.alone,
			Query: func(ctx context.Context, since Since) (connect.AnyResponse, freshet.Revision, error) {
				start := since.Frontier
				if r.replayed != nil {
					start = r.replayed(since)
				}
				m, err := r.get(ctx)
				if err != nil {
					return nil, start, err
				}
				return connect.NewResponse(m), start, nil
			},
		})
		o := outcome{stamp: a.Stamp, from: a.From, err: err}
		if err == nil {
			o.body = a.Response.Any().(*messagesv1.GetMessageResponse).GetMessage().GetBody()
		}
		done <- o
	}()
	return done
}

// reads makes a read to its end, with queries that answer at once.
func (r *rig) reads(t *testing.T, atLeast freshet.Revision) outcome {
	t.Helper()
	o := waitFor(t, r.read(t.Context(), "", atLeast), "a read")
	require.NoError(t, o.err)
	return o
}

// waiters counts those who wait for a query that runs.
func (r *rig) waiters() int {
	r.made.flights.mu.Lock()
	defer r.made.flights.mu.Unlock()
	n := 0
	for _, l := range r.made.flights.lanes {
		n += l.running.waiters
	}
	return n
}

// queued waits until n requests share the key's waiting flight.
func (r *rig) queued(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		r.made.flights.mu.Lock()
		defer r.made.flights.mu.Unlock()
		for _, l := range r.made.flights.lanes {
			if l.waiting != nil && l.waiting.waiters == n {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
}

func change(position uint64) freshet.Commit {
	return freshet.Commit{Revision: at(position), Topics: []string{name}}
}
