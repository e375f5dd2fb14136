package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echo is a call that answers with what it was asked for, in a stamp of the
// test's choice.
type echo struct {
	mu    sync.Mutex
	asked []string
	fn    func(n int, asked string) (string, string, error) // value, stamp, error
}

func (e *echo) call(_ context.Context, req *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.StringValue], error) {
	asked := req.Header().Get(headerAtLeast)
	e.mu.Lock()
	e.asked = append(e.asked, asked)
	n := len(e.asked)
	e.mu.Unlock()
	value, stamp, err := e.fn(n, asked)
	if err != nil {
		cerr := connect.NewError(connect.CodeOf(err), err)
		cerr.Meta().Set(headerRevision, stamp)
		return nil, cerr
	}
	resp := connect.NewResponse(wrapperspb.String(value))
	resp.Header().Set(headerRevision, stamp)
	return resp, nil
}

type echoQuery = Query[wrapperspb.StringValue, wrapperspb.StringValue]

// querying runs a query on a fake clock against a stream that is ready at 1 and
// then sends what fn, which sees the query running, gives to send.
func querying(t *testing.T, e *echo, silent bool, fn func(t *testing.T, q *echoQuery, send func(string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		frames := make(chan string)
		scene := func(p *pipeEnd) {
			if !silent {
				p.open()
				p.send(readyFrame(rev(1), time.Hour))
			}
			for {
				select {
				case f := <-frames:
					p.send(f)
				case <-p.ctx.Done():
					return
				}
			}
		}
		c, err := New("http://freshet.test",
			WithHTTPClient(&http.Client{Transport: &pipeNet{scenes: []func(*pipeEnd){scene}}}))
		require.NoError(t, err)
		q := NewQuery(c, []string{"t"}, e.call, wrapperspb.String("request"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		synctest.Wait()
		fn(t, q, func(frame string) {
			frames <- frame
			synctest.Wait()
		})
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		synctest.Wait()
	})
}

func TestQuery_followsTheStream(t *testing.T) {
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return "at " + asked, asked, nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		s := q.Latest()
		require.Equal(t, "at "+rev(1).String(), s.Value.GetValue(), "the first fetch asks for what was heard")
		require.True(t, s.Fresh)

		send(invalidateFrame(rev(5), "t"))
		require.Equal(t, "at "+rev(5).String(), q.Latest().Value.GetValue())

		send(frontierFrame(rev(9), 0))
		require.Equal(t, rev(9), q.Latest().Revision, "the frontier raises have")

		q.Wrote(Stamp{Revision: rev(12)})
		synctest.Wait()
		require.Equal(t, rev(12), q.Latest().Revision)
		require.Equal(t, []string{rev(1).String(), rev(5).String(), rev(12).String()}, e.asked)
	})
}

// No stream: data all the same, by a strong read, but not called fresh (G9).
func TestQuery_withoutStream(t *testing.T) {
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return "strong" + asked, rev(3).String(), nil }}
	querying(t, e, true, func(t *testing.T, q *echoQuery, _ func(string)) {
		require.False(t, q.Latest().Loaded())
		time.Sleep(queryFirstWait)
		synctest.Wait()
		require.Equal(t, "strong", q.Latest().Value.GetValue())
		require.False(t, q.Latest().Fresh)
	})
}

// A node that lags is said to be stale and polled strongly, until it has caught up.
func TestQuery_lag(t *testing.T) {
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return asked, rev(1).String(), nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		send(frontierFrame(rev(1), 6000))
		require.False(t, q.Latest().Fresh)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{rev(1).String(), ""}, e.asked)
		send(frontierFrame(rev(1), 3))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, q.Latest().Fresh)
		require.Len(t, e.asked, 2)
	})
}

// A stamped not_found is an answer; unavailable is none.
func TestQuery_errors(t *testing.T) {
	e := &echo{fn: func(n int, asked string) (string, string, error) {
		if n == 1 {
			return "", "", connect.NewError(connect.CodeUnavailable, errors.New("later"))
		}
		return "", asked, connect.NewError(connect.CodeNotFound, errors.New("gone"))
	}}
	querying(t, e, false, func(t *testing.T, q *echoQuery, _ func(string)) {
		require.False(t, q.Latest().Loaded())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(q.Latest().Err))
		require.True(t, q.Latest().Fresh)
		for s := range q.Changes(t.Context()) {
			require.Equal(t, rev(1), s.Revision)
			break
		}
	})
}
