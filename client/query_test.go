package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/rule"
)

// echo is a call that answers with what it was asked for, in a stamp of the
// test's choice.
type echo struct {
	mu    sync.Mutex
	asked []string
	hang  int                                               // this call is never answered
	fn    func(n int, asked string) (string, string, error) // value, stamp, error
}

func (e *echo) call(ctx context.Context, req *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	asked := req.Header().Get(headerAtLeast)
	e.mu.Lock()
	e.asked = append(e.asked, asked)
	n := len(e.asked)
	e.mu.Unlock()
	if n == e.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	value, stamp, err := e.fn(n, asked)
	if err != nil {
		cerr := connect.NewError(connect.CodeOf(err), err)
		cerr.Meta().Set(headerRevision, stamp)
		return nil, cerr
	}
	resp := connect.NewResponse(&messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: value}})
	resp.Header().Set(headerRevision, stamp)
	return resp, nil
}

type echoQuery = Query[messagesv1.GetMessageRequest, messagesv1.GetMessageResponse]

// querying runs a query on a fake clock against a stream that is ready at 1 and
// then sends what fn, which sees the query running, gives to send; "" closes it.
func querying(t *testing.T, e *echo, silent bool, fn func(t *testing.T, q *echoQuery, send func(string))) *pipeNet {
	t.Helper()
	network := new(pipeNet)
	synctest.Test(t, func(t *testing.T) {
		frames := make(chan string)
		scene := func(p *pipeEnd) {
			if !silent {
				p.open()
				// Of another history than the server's.
				if since, err := freshet.ParseRevision(network.asked[len(network.asked)-1]); err == nil && since.Epoch != rev(1).Epoch {
					p.send(resetFrame(rev(7)))
				}
				p.send(readyFrame(rev(1), time.Hour))
			}
			for {
				select {
				case f := <-frames:
					if f == "" {
						return
					}
					p.send(f)
				case <-p.ctx.Done():
					return
				}
			}
		}
		network.scenes = []func(*pipeEnd){scene}
		c, err := New("http://freshet.test", WithHTTPClient(&http.Client{Transport: network}))
		require.NoError(t, err)
		q, err := NewQuery(c, e.call, &messagesv1.GetMessageRequest{Name: "t"})
		require.NoError(t, err)
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
	return network
}

func TestQuery_followsTheStream(t *testing.T) {
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return "at " + asked, asked, nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		s := q.Latest()
		require.Equal(t, "at "+rev(1).String(), s.Value.GetMessage().GetBody(), "the first fetch asks for what was heard")
		require.True(t, s.Fresh)

		send(invalidateFrame(rev(5), "t"))
		require.Equal(t, "at "+rev(5).String(), q.Latest().Value.GetMessage().GetBody())

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
		require.Equal(t, "strong", q.Latest().Value.GetMessage().GetBody())
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

// G9: a stream that is lost shows as stale at once, and until the next is ready.
func TestQuery_lostStreamIsStale(t *testing.T) {
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return asked, asked, nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		_, changed := q.watch()
		require.True(t, q.Latest().Fresh)
		send("")
		require.False(t, q.Latest().Fresh)
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		time.Sleep(time.Second) // the first wait before a reconnect is 750 ms at most
		synctest.Wait()
		require.True(t, q.Latest().Fresh)
	})
}

func resetFrame(r freshet.Revision) string {
	return fmt.Sprintf("event: reset\nid: %s\ndata: {\"revision\":%q,\"reason\":\"epoch\"}\n\n", r, r.String())
}

// F77: the server goes back to a database of a lower epoch.
func TestQuery_F77_resetOfALowerEpoch(t *testing.T) {
	lower := freshet.Revision{Epoch: 9, Position: 4}
	e := &echo{fn: func(_ int, asked string) (string, string, error) { return "at " + asked, asked, nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		send(resetFrame(lower))
		require.False(t, q.Latest().Fresh)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "at "+lower.String(), q.Latest().Value.GetMessage().GetBody())
		require.True(t, q.Latest().Fresh)
		q.Wrote(Stamp{Revision: rev(50)}) // on its way when the switch came
		synctest.Wait()
		require.True(t, q.Latest().Fresh)
	})
}

// F77: an answer came from a higher epoch than the stream is in. Which of the
// two is wrong the server says, to a stream that begins at the higher one.
func TestQuery_F77_streamIsBehindAnAnswer(t *testing.T) {
	higher := freshet.Revision{Epoch: 11, Position: 1}
	e := &echo{fn: func(n int, asked string) (string, string, error) {
		if n == 2 {
			return "elsewhere", higher.String(), nil
		}
		return "at " + asked, asked, nil
	}}
	network := querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		send(invalidateFrame(rev(5), "t"))
		require.Equal(t, "elsewhere", q.Latest().Value.GetMessage().GetBody())
		send(frontierFrame(rev(6), 0))
		require.False(t, q.Latest().Fresh)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, "at "+rev(7).String(), q.Latest().Value.GetMessage().GetBody())
		require.True(t, q.Latest().Fresh)
	})
	require.Equal(t, []string{"", higher.String()}, network.asked)
}

// F79: a fetch that is never answered is called off, and tried again.
func TestQuery_F79_noAnswer(t *testing.T) {
	e := &echo{hang: 2, fn: func(_ int, asked string) (string, string, error) { return asked, asked, nil }}
	querying(t, e, false, func(t *testing.T, q *echoQuery, send func(string)) {
		send(invalidateFrame(rev(5), "t"))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		require.Len(t, e.asked, 2)
		require.False(t, q.Latest().Fresh)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, rev(5).String(), q.Latest().Value.GetMessage().GetBody())
	})
}

// F87: what an error is, by its code, stamp and details.
func TestFailureOf_F87(t *testing.T) {
	about := map[connect.Code]bool{
		connect.CodeNotFound: true, connect.CodeAlreadyExists: true, connect.CodePermissionDenied: true,
		connect.CodeFailedPrecondition: true, connect.CodeAborted: true, connect.CodeOutOfRange: true,
	}
	failed := func(code connect.Code, stamp string, details ...proto.Message) error {
		err := connect.NewError(code, errors.New("no"))
		if stamp != "" {
			err.Meta().Set(headerRevision, stamp)
		}
		for _, d := range details {
			detail, derr := connect.NewErrorDetail(d)
			require.NoError(t, derr)
			err.AddDetail(detail)
		}
		return err
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		require.Equal(t, about[code], failureOf(failed(code, rev(3).String())).answered, "%v with a stamp", code)
		require.False(t, failureOf(failed(code, "")).answered, "%v without one", code)
	}
	info := func(domain, reason string) *errdetails.ErrorInfo {
		return &errdetails.ErrorInfo{Domain: domain, Reason: reason, Metadata: map[string]string{"epoch": "0000000b"}}
	}
	unanswered := func(want rule.Input, final bool, err error) {
		t.Helper()
		want.Kind = rule.OnFailure
		require.Equal(t, failure{in: want, final: final}, failureOf(err))
	}
	unanswered(rule.Input{EpochChanged: true, Revision: freshet.Revision{Epoch: 11}}, false,
		failed(connect.CodeFailedPrecondition, rev(3).String(), info(errorDomain, reasonEpochChanged)))
	unanswered(rule.Input{Unknown: true}, false, failed(connect.CodeInvalidArgument, "", info(errorDomain, reasonAtLeastUnknown)))
	unanswered(rule.Input{}, true, failed(connect.CodeInvalidArgument, "", info(errorDomain, reasonTopicSpelling)))
	for _, theirs := range []string{reasonAtLeastUnknown, reasonTopicSpelling} {
		unanswered(rule.Input{}, false, failed(connect.CodeInvalidArgument, "", info("example.com", theirs)))
	}
	unanswered(rule.Input{}, true, failed(connect.CodePermissionDenied, ""))

	unanswered(rule.Input{Wait: 7 * time.Second}, false, failed(connect.CodeUnavailable, "", &errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)}))
	after := connect.NewError(connect.CodeResourceExhausted, errors.New("no"))
	after.Meta().Set("Retry-After", "9")
	unanswered(rule.Input{Wait: 9 * time.Second}, false, after)
	unanswered(rule.Input{}, false, errors.New("the network"))
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

// A query says what will end its stream, while its answer is still fresh.
func TestQuery_tokenSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &echo{fn: func(_ int, asked string) (string, string, error) { return "at " + asked, asked, nil }}
		down := errors.New("the issuer is down")
		var fails atomic.Pointer[error]
		network := &pipeNet{scenes: []func(*pipeEnd){
			func(e *pipeEnd) { e.open(); e.send(expiringFrame(rev(3), 100*time.Second)); e.hold() },
		}}
		asked := 0
		c, err := New("http://freshet.test", WithHTTPClient(&http.Client{Transport: network}), WithTokenSource(func(context.Context) (string, error) {
			asked++
			if err := fails.Load(); err != nil {
				return "", *err
			}
			return fmt.Sprint(asked), nil
		}))
		require.NoError(t, err)
		q, err := NewQuery(c, e.call, &messagesv1.GetMessageRequest{Name: "t"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(79 * time.Second)
		require.True(t, q.Latest().Fresh)
		require.NoError(t, q.Latest().StreamErr)
		_, changed := q.watch()
		fails.Store(&down)
		pass(11 * time.Second)
		<-changed
		require.True(t, q.Latest().Fresh)
		require.ErrorIs(t, q.Latest().StreamErr, down)
		fails.Store(nil)
		pass(9 * time.Second)
		require.True(t, q.Latest().Fresh)
		require.NoError(t, q.Latest().StreamErr)
		require.Len(t, e.asked, 1, "no answer was fetched again")
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.ErrorIs(t, q.Latest().StreamErr, context.Canceled)
		network.playing.Wait()
		synctest.Wait()
	})
}
