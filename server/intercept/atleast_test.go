package intercept

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

func TestParseAtLeast(t *testing.T) {
	low, high, other := at(5).String(), at(9).String(), freshet.Revision{Epoch: 8, Position: 1}
	for _, tt := range []struct {
		name  string
		lines []string
		want  freshet.Revision
		bad   bool
	}{
		{name: "none"},
		{name: "one", lines: []string{low}, want: at(5)},
		{name: "list", lines: []string{low + ", " + high}, want: at(9)},
		{name: "list without space", lines: []string{high + "," + low}, want: at(9)},
		{name: "lines", lines: []string{high, low}, want: at(9)},
		{name: "higher epoch wins", lines: []string{high, other.String()}, want: other},
		{name: "empty", lines: []string{""}},
		{name: "blank", lines: []string{" \t"}},
		{name: "empty element", lines: []string{low + ",,"}, want: at(5)},
		{name: "one bad among good", lines: []string{low, "x"}, bad: true},
		{name: "upper case", lines: []string{"0000000A-0000000000000001"}, bad: true},
		{name: "number", lines: []string{"1"}, bad: true},
		{name: "zero epoch", lines: []string{"00000000-0000000000000001"}, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAtLeast(http.Header{HeaderAtLeast: tt.lines})
			if tt.bad {
				requireCode(t, connect.CodeInvalidArgument, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

// F23: nothing that a client sends makes it wait, and none of it reaches the
// handler or the database more than once.
func TestAtLeast_refusesAtOnce(t *testing.T) {
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		r := newRig(t, nil, options...)
		r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
			t.Error("the handler ran")
			return nil, errors.New("no")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // half of MaxWait
		defer cancel()
		call := func(rev string) error {
			_, err := r.client.GetMessage(ctx, getRequest(rev))
			require.Empty(t, errorHeader(t, err, HeaderRevision), "no handler ran, so there is nothing to stamp")
			return err
		}

		unknown := func(rev string) { // F87: it can be told from a bad request
			err := call(rev)
			requireCode(t, connect.CodeInvalidArgument, err)
			require.Equal(t, ReasonAtLeastUnknown, detail[*errdetails.ErrorInfo](t, err).GetReason())
		}
		unknown("garbage")
		require.Zero(t, r.primary.statements())

		unknown(at(201).String()) // forged: the database is at 200
		unknown("00000007-ffffffffffffffff")
		require.Equal(t, 2, r.primary.statements())

		err := call(freshet.Revision{Epoch: epoch - 1, Position: 1}.String())
		requireCode(t, connect.CodeFailedPrecondition, err)
		info := detail[*errdetails.ErrorInfo](t, err)
		require.Equal(t, ReasonEpochChanged, info.GetReason())
		require.Equal(t, "freshet.dev", info.GetDomain())
		require.Equal(t, "00000007", info.GetMetadata()["epoch"])
		require.Equal(t, at(100).String(), info.GetMetadata()["revision"])

		for _, newer := range []string{freshet.Revision{Epoch: epoch + 1, Position: 1}.String(), "ffffffff-0000000000000001", "ffffffff-ffffffffffffffff"} {
			err = call(newer)
			requireCode(t, connect.CodeUnavailable, err)
			require.Positive(t, detail[*errdetails.RetryInfo](t, err).GetRetryDelay().AsDuration())
			waitFor(t, r.primary.nudged, "a nudge: another node may know more than we do")
		}
		require.Equal(t, 2, r.primary.statements())
	})
}

func TestAtLeast_waitsForTheFrontier(t *testing.T) {
	r := newRig(t, nil)
	r.primary.onNudge = func() { r.hub.Advance(at(150)) } // only a nudge moves this database's WAL
	stamp, err := r.get(t, at(150).String())
	require.NoError(t, err)
	require.Equal(t, at(150).String(), stamp)
	require.Equal(t, 1, r.primary.statements())

	r.hub.Advance(at(160))
	stamp, err = r.get(t, at(155).String())
	require.NoError(t, err)
	require.Equal(t, at(160).String(), stamp, "the stamp is the frontier, never what was asked for")
	require.Equal(t, 1, r.primary.statements(), "a position that was reached needs no statement")
}

func TestAtLeast_remembersThePrimarysPosition(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWait = time.Millisecond })
	for range 3 {
		_, err := r.get(t, at(200).String())
		requireCode(t, connect.CodeUnavailable, err)
	}
	require.Equal(t, 1, r.primary.statements())
}

func TestAtLeast_givesUp(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWait = 10 * time.Millisecond })
	_, err := r.get(t, at(150).String())
	requireCode(t, connect.CodeUnavailable, err)
	require.NotNil(t, detail[*errdetails.RetryInfo](t, err))

	// The request's own deadline comes first.
	r = newRig(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.client.GetMessage(ctx, getRequest(at(150).String()))
	requireCode(t, connect.CodeDeadlineExceeded, err)
}

func TestAtLeast_epochEndsWhileWaiting(t *testing.T) {
	r := newRig(t, nil)
	r.primary.onNudge = func() {
		r.hub.Begin(freshet.Revision{Epoch: epoch + 1, Position: 10})
		r.hub.Serve(freshet.Revision{Epoch: epoch + 1, Position: 10})
	}
	_, err := r.get(t, at(150).String())
	requireCode(t, connect.CodeFailedPrecondition, err)
	require.Equal(t, "00000008", detail[*errdetails.ErrorInfo](t, err).GetMetadata()["epoch"])
}

func TestAtLeast_primaryUnreachableOrInAnotherEpoch(t *testing.T) {
	r := newRig(t, nil)
	r.primary.err = errors.New("dial tcp 10.1.2.3:5432: refused")
	_, err := r.get(t, at(150).String())
	requireCode(t, connect.CodeUnavailable, err)
	require.NotContains(t, err.Error(), "10.1.2.3")

	r = newRig(t, nil)
	r.primary.insert = freshet.Revision{Epoch: epoch + 1, Position: 1000}
	_, err = r.get(t, at(150).String())
	requireCode(t, connect.CodeUnavailable, err)
}

func TestAtLeast_withoutAFrontier(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWait = 10 * time.Millisecond })
	r.hub.Begin(at(100)) // a gap: the node serves no more
	_, err := r.get(t, at(60).String())
	requireCode(t, connect.CodeUnavailable, err)

	stamp, err := r.get(t)
	require.NoError(t, err, "a strong read needs no frontier")
	require.Empty(t, stamp, "no frontier yet = no stamp")
}

func TestAtLeast_holdsForMutations(t *testing.T) {
	r := newRig(t, nil)
	r.handlers.remove = func(context.Context) error { t.Error("the handler ran"); return nil }
	req := deleteRequest()
	req.Header().Set(HeaderAtLeast, at(999).String())
	_, err := r.client.DeleteMessage(t.Context(), req)
	requireCode(t, connect.CodeInvalidArgument, err)
}

// slowPrimary takes its time for a position.
type slowPrimary struct {
	*primary
	takes time.Duration
}

func (p slowPrimary) InsertPosition(ctx context.Context) (freshet.Revision, error) {
	select {
	case <-time.After(p.takes):
		return p.primary.InsertPosition(ctx)
	case <-ctx.Done():
		return freshet.Revision{}, ctx.Err()
	}
}

// Asking for the position and waiting for it have one bound together.
func TestAtLeast_oneBoundForBothWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxWait = 2 * time.Second
		node := hub.New(hub.Config{})
		node.Begin(at(50))
		node.Serve(at(100))
		w := &frontierWait{node: node, maxWait: maxWait, primary: slowPrimary{
			&primary{insert: at(200), nudged: make(chan struct{})}, maxWait - time.Millisecond}}
		began := time.Now()
		requireCode(t, connect.CodeUnavailable, w.pass(t.Context(), at(150)))
		require.Equal(t, maxWait, time.Since(began))
	})
}
