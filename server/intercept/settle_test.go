package intercept

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store"
)

// settled runs wait on its own: outcomes come from the store, which has no way
// to make them up.
func newSettling(t *testing.T, maxSettle time.Duration) (*settling, *rig) {
	t.Helper()
	r := &rig{
		hub:     hub.New(hub.Config{}),
		primary: &primary{nudged: make(chan struct{})},
		settler: &settler{commits: map[uint64]chan freshet.Commit{}},
	}
	r.hub.Begin(at(50))
	r.hub.Serve(at(100))
	return &settling{cfg: &Config{Hub: r.hub, Primary: r.primary, Settler: r.settler, MaxSettle: maxSettle}}, r
}

const long = time.Minute

func TestSettle_ownCommitIsTheFastPath(t *testing.T) {
	s, r := newSettling(t, long)
	s.expect(5)
	r.settler.tell(5, freshet.Commit{Revision: at(120), Topics: []string{"b", "a", "b"}})
	r.hub.Advance(at(120))
	rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(120), rev)
	require.Equal(t, []string{"a", "b"}, topics)
	s.forget()
	require.Equal(t, 1, r.settler.forgotten)
}

// A commit is handed over before the frontier moves to it: a read at its revision would
// still have to wait then, and a write's answer says that it needn't.
func TestSettle_waitsForTheFrontier(t *testing.T) {
	s, r := newSettling(t, long)
	s.expect(5)
	r.settler.tell(5, freshet.Commit{Revision: at(120), Topics: []string{"a"}})
	r.primary.onNudge = func() { r.hub.Advance(at(120)) } // it was waited for
	rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(120), rev)
	require.Equal(t, []string{"a"}, topics)
	require.Equal(t, at(120), r.hub.Frontier())

	s, r = newSettling(t, 10*time.Millisecond)
	s.expect(5)
	r.settler.tell(5, freshet.Commit{Revision: at(120), Topics: []string{"a"}})
	rev, topics = s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(130), rev)
	require.Nil(t, topics, "never passed, so not known")
}

// A frontier that has reached the position doesn't hide the commit that it has passed:
// a write's topics are left out only where nobody handed its commit over.
func TestSettle_handedOver(t *testing.T) {
	reached := make(chan struct{})
	close(reached)
	for range 100 { // a select takes either
		commit := make(chan freshet.Commit, 1)
		commit <- freshet.Commit{Revision: at(120)}
		own, known := handedOver(commit, reached)
		require.True(t, known)
		require.Equal(t, at(120), own.Revision)
		_, known = handedOver(commit, reached)
		require.False(t, known)
	}
}

// The store is told who calls, to give callers their turns.
func TestSettle_tellsTheStoreWhoCalls(t *testing.T) {
	node := hub.New(hub.Config{})
	cfg := Config{Contract: messageService(), Hub: node}.withDefaults()
	var told string
	h := settle(&cfg, newAudit(&cfg))(func(_ context.Context, _ connect.AnyRequest, call *store.Call) (connect.AnyResponse, error) {
		told = call.Caller
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("nothing is written"))
	})
	ada := Principal{Issuer: "x", Subject: "ada"}
	_, err := h(context.WithValue(t.Context(), callerKey{}, caller{Principal: ada}), &call{})
	require.Error(t, err)
	require.Equal(t, ada.Name(), told)
	require.NotEmpty(t, told)
	_, err = h(t.Context(), &call{})
	require.Error(t, err)
	require.Empty(t, told, "nobody is known")
}

// A node that follows another history already, and has no frontier of it yet, isn't to
// write in the one that has ended: on a primary that was left behind, say, to which its
// pool still has connections.
func TestSettle_guardsWritesBeforeTheFrontier(t *testing.T) {
	node := hub.New(hub.Config{})
	cfg := Config{Contract: messageService(), Hub: node}.withDefaults()
	var guarded freshet.Epoch
	h := settle(&cfg, newAudit(&cfg))(func(_ context.Context, _ connect.AnyRequest, call *store.Call) (connect.AnyResponse, error) {
		guarded = call.Guarded
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("nothing is written"))
	})
	write := func() freshet.Epoch {
		t.Helper()
		_, err := h(t.Context(), &call{})
		require.Error(t, err)
		return guarded
	}
	require.Zero(t, write(), "nothing is known yet")
	node.Begin(at(100))
	require.Equal(t, freshet.Epoch(epoch), write())
	node.Serve(at(100))
	require.Equal(t, freshet.Epoch(epoch), write())
	node.Begin(freshet.Revision{Epoch: epoch + 1, Position: 10})
	require.Equal(t, freshet.Epoch(epoch+1), write())
}

// F25, F46: a rollback and a no-op are settled by position, which a nudge
// brings about.
func TestSettle_byPosition(t *testing.T) {
	for name, o := range map[string]store.Outcome{
		"rolled back":       {Xid: 5, Position: at(130)},
		"wrote nothing":     {Position: at(130), Committed: true},
		"unpublished table": {Xid: 6, Position: at(130), Committed: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := newSettling(t, long)
			if o.Xid != 0 {
				s.expect(o.Xid)
			}
			r.primary.onNudge = func() { r.hub.Advance(at(131)) }
			rev, topics := s.wait(t.Context(), []store.Outcome{o})
			require.Equal(t, at(130), rev)
			require.Empty(t, topics)
			waitFor(t, r.primary.nudged, "the nudge")
		})
	}
}

func TestSettle_severalTransactions(t *testing.T) {
	s, r := newSettling(t, long)
	s.expect(5)
	s.expect(6)
	r.settler.tell(5, freshet.Commit{Revision: at(120), Topics: []string{"a"}})
	r.settler.tell(6, freshet.Commit{Revision: at(125), Topics: []string{"b"}})
	r.hub.Advance(at(140))
	rev, topics := s.wait(t.Context(), []store.Outcome{
		{Xid: 4, Position: at(110)}, // a conflict, tried again
		{Xid: 5, Position: at(130), Committed: true},
		{Xid: 6, Position: at(140), Committed: true},
	})
	require.Equal(t, at(125), rev)
	require.Equal(t, []string{"a", "b"}, topics)
}

// G5: a write that can't be settled in time is stamped with what a later read
// has to reach, and is still a success.
func TestSettle_timeout(t *testing.T) {
	s, _ := newSettling(t, 10*time.Millisecond)
	s.expect(5)
	rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(130), rev)
	require.Nil(t, topics, "not seen, so not known")

	s, r := newSettling(t, long)
	r.hub.Begin(freshet.Revision{Epoch: epoch + 1, Position: 1})
	r.hub.Serve(freshet.Revision{Epoch: epoch + 1, Position: 1})
	rev, _ = s.wait(t.Context(), []store.Outcome{{Position: at(130), Committed: true}})
	require.Equal(t, at(130), rev, "the epoch has ended: nothing to wait for")
}

func TestSettle_topicsNotKnown(t *testing.T) {
	for name, c := range map[string]freshet.Commit{
		"nil":    {Revision: at(120)},
		"floors": {Revision: at(120), Topics: []string{"a"}, Floors: []freshet.Pattern{"**"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := newSettling(t, long)
			s.expect(5)
			r.settler.tell(5, c)
			r.hub.Advance(at(120))
			rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
			require.Equal(t, at(120), rev)
			require.Nil(t, topics)
		})
	}
}

// F48: a handler without a transaction of the store has written elsewhere, for
// all we know: its need is a position read after it has returned.
func TestSettle_F48_withoutATransaction(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxSettle = long })
	r.handlers.remove = func(context.Context) error {
		require.Zero(t, r.primary.statements(), "asked before the handler")
		r.primary.insert = at(250)
		return nil
	}
	r.primary.onNudge = func() { r.hub.Advance(at(260)) } // it was waited for
	resp, err := r.client.DeleteMessage(t.Context(), deleteRequest())
	require.NoError(t, err)
	require.Equal(t, at(250).String(), resp.Header().Get(HeaderRevision))
	require.Empty(t, resp.Header().Values(HeaderTopics))

	remove := func(change func(*rig)) string {
		r := newRig(t, func(c *Config) { c.MaxSettle = time.Millisecond })
		change(r)
		resp, err := r.client.DeleteMessage(t.Context(), deleteRequest())
		require.NoError(t, err)
		return resp.Header().Get(HeaderRevision)
	}
	require.Equal(t, at(200).String(), remove(func(*rig) {}), "out of time, and still the need")
	require.Empty(t, remove(func(r *rig) { r.primary.err = errors.New("cut") }), "no stamp rather than one that may be too low")
	require.Empty(t, remove(func(r *rig) { r.primary.insert.Epoch++ }), "nor one of a history that may lack the write")
	require.Empty(t, remove(func(r *rig) { r.hub.Begin(at(100)) }), "without a frontier the epoch isn't known")
}

func TestEncodeTopics(t *testing.T) {
	require.Equal(t, "messages,conversations/-/messages,a%2Cb/%C3%A9%252D",
		encodeTopics([]string{"messages", "conversations/-/messages", "a,b/é%2D"}))
}

func TestReply_writesTopicsOnSuccessAndError(t *testing.T) {
	r := reply{stamp: at(1), topics: []string{"messages"}}
	err := connect.NewError(connect.CodeNotFound, errors.New("gone"))
	r.write(err.Meta())
	require.Equal(t, "messages", err.Meta().Get(HeaderTopics))
	require.Equal(t, at(1).String(), err.Meta().Get(HeaderRevision))

	r.topics = []string{strings.Repeat("x", maxTopicsHeader+1)}
	err = connect.NewError(connect.CodeNotFound, errors.New("gone"))
	r.write(err.Meta())
	require.Empty(t, err.Meta().Values(HeaderTopics), "left out above 2 KiB")
}

// A COMMIT whose answer was lost with its connection leaves no position. The
// stamp must not be below what was written (G5): the primary is asked.
func TestSettle_lostPosition(t *testing.T) {
	s, r := newSettling(t, time.Millisecond)
	r.primary.insert = at(150)
	rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: freshet.Revision{Epoch: epoch}, Committed: true}})
	require.Equal(t, at(150), rev)
	require.Empty(t, topics)

	r.primary.err = errors.New("cut")
	rev, _ = s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: freshet.Revision{Epoch: epoch}, Committed: true}})
	require.Zero(t, rev, "no stamp rather than one that may be too low")
}

// F3: the epoch ends between a COMMIT and its settling. The stamp is never of
// the next one: an asynchronous commit may be gone there, its id given again,
// and whoever reads at-least the stamp was promised the write.
func TestSettle_F3_neverIntoTheNextEpoch(t *testing.T) {
	next := func(position uint64) freshet.Revision {
		return freshet.Revision{Epoch: epoch + 1, Position: position}
	}
	another := freshet.Commit{Revision: next(20), Topics: []string{"another's"}}

	s, r := newSettling(t, long)
	s.expect(5)
	r.settler.tell(5, another)
	r.primary.onNudge = func() {
		r.hub.Begin(next(1))
		r.hub.Serve(next(30))
	}
	rev, topics := s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(130), rev)
	require.Empty(t, topics, "another's commit is handed over, then the epoch ends")

	s, r = newSettling(t, long)
	s.expect(5)
	r.hub.Begin(next(1))
	r.hub.Serve(next(30))
	r.settler.tell(5, another)
	rev, topics = s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: at(130), Committed: true}})
	require.Equal(t, at(130), rev)
	require.Empty(t, topics, "both have happened")

	s, r = newSettling(t, long)
	r.primary.insert = next(30)
	rev, topics = s.wait(t.Context(), []store.Outcome{{Xid: 5, Position: freshet.Revision{Epoch: epoch}, Committed: true}})
	require.Zero(t, rev, "where it was committed is not known")
	require.Empty(t, topics)
}
