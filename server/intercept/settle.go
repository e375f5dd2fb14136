package intercept

import (
	"context"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store"
)

// settle holds the answer of a mutation back until a read that follows finds
// what the mutation did or saw, at most MaxSettle, and stamps it with what
// such a read must ask for.
//
// A transaction that rolled back, or found nothing to do, saw something too
// (not_found, an earlier result of the same request id), so it is settled by
// its WAL position. One that committed is settled when its own commit has
// passed the frontier, which is usually sooner, and then its topics are known.
//
// A handler without a transaction of the store has written in its own way, on a
// pool of its own say, if at all: whatever it committed is at or below a
// position that is read after it has returned. (A handler that does both is
// settled by the store's transactions, which cover what it committed elsewhere
// before the last of them.)
//
// An error that says nothing about data is passed on at once: it carries no
// stamp. Whatever happens here, the handler's answer stands: a committed write
// is never reported as failed (G5).
func settle(cfg *Config, audit *audit) func(ask) handler {
	return func(next ask) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			s := &settling{cfg: cfg}
			defer s.forget()
			epoch := cfg.Hub.Frontier().Epoch
			// While a history is being told anew there is no frontier, and what the node
			// followed before, a primary that was left behind, say, may still take writes.
			guarded := max(epoch, cfg.Hub.Horizon().Epoch)
			told := &store.Call{Caller: PrincipalOf(ctx).Name(), Guarded: guarded, BeforeCommit: s.expect, Audit: audit.due(c.procedure)}
			trace := cfg.Tracing.commits(ctx, epoch)
			if trace != nil {
				told.BeforeCommit = func(xid uint64) {
					trace.began(xid)
					s.expect(xid)
				}
			}
			resp, err := next(ctx, c.req, told)
			if trace != nil {
				trace.ended(told.Outcomes())
			}
			if !isAboutData(ctx, err) {
				return resp, err
			}
			outcomes := told.Outcomes()
			if len(outcomes) == 0 {
				outcomes = []store.Outcome{{Position: freshet.Revision{Epoch: epoch}, Committed: true}}
			}
			stamp, topics := s.wait(ctx, outcomes)
			// A trigger may have changed what the caller isn't to know of.
			c.reply.stamp, c.reply.topics = stamp, cfg.Authorizer.shown(ctx, topics)
			return resp, err
		}
	}
}

// settling is one call's wait.
type settling struct {
	cfg *Config

	mu       sync.Mutex // guards expected: transactions may run side by side
	expected map[uint64]<-chan freshet.Commit
	forgets  []func()
}

// expect is store.Call.BeforeCommit.
func (s *settling) expect(xid uint64) {
	commit, forget := s.cfg.Settler.Expect(xid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expected == nil {
		s.expected = make(map[uint64]<-chan freshet.Commit, 1)
	}
	s.expected[xid] = commit
	s.forgets = append(s.forgets, forget)
}

func (s *settling) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, forget := range s.forgets {
		forget()
	}
}

// wait settles all outcomes and returns the call's stamp, and its topics if
// every committed transaction was seen.
func (s *settling) wait(ctx context.Context, outcomes []store.Outcome) (freshet.Revision, []string) {
	// Only waits have to end with MaxSettle, which may be next to nothing.
	asking, cancel := context.WithTimeout(ctx, max(s.cfg.MaxSettle, defaultMaxSettle))
	defer cancel()
	ctx, cancelWait := context.WithTimeout(ctx, s.cfg.MaxSettle)
	defer cancelWait()
	nudge := time.AfterFunc(nudgeDelay, s.cfg.Primary.Nudge)
	defer nudge.Stop()
	began := time.Now()
	var rev freshet.Revision
	var topics []string
	how, known := settledSeen, true
	for _, o := range outcomes {
		if o.Position.Position == 0 {
			// The connection was lost with the answer of its COMMIT, or was never
			// ours. Any position of its epoch that is read from now on is above
			// it. Without one, the write goes unstamped rather than with a stamp that may be too
			// low; or, in another epoch, with one that promises what a crash may
			// have taken back.
			position, err := s.cfg.Primary.InsertPosition(asking)
			if err != nil || position.Epoch != o.Position.Epoch {
				s.cfg.Metrics.settled(time.Since(began), settledTimeout)
				return freshet.Revision{}, nil
			}
			o.Position = position
		}
		commit, seen, err := s.outcome(ctx, o)
		switch {
		case seen:
			rev = rev.Max(commit.Revision)
			topics = append(topics, commit.Topics...)
			known = known && commit.Topics != nil && len(commit.Floors) == 0
			continue
		case err != nil:
			how = settledTimeout
		case how == settledSeen:
			how = settledPosition
		}
		rev = rev.Max(o.Position)
		known = known && !o.Committed // nothing that was rolled back was told
	}
	s.cfg.Metrics.settled(time.Since(began), how)
	if !known {
		return rev, nil
	}
	slices.Sort(topics)
	return rev, slices.Compact(topics)
}

// outcome waits until the frontier has reached the transaction's own commit, or
// the position read after it, whichever is first. A commit is handed over before
// the frontier moves to it, so one that hasn't come by the time the frontier is at
// the position won't: it was of no source, say. A commit of another epoch is not its
// own: after a crash, ids whose WAL was not flushed are given again.
func (s *settling) outcome(ctx context.Context, o store.Outcome) (_ freshet.Commit, seen bool, _ error) {
	s.mu.Lock()
	commit := s.expected[o.Xid] // nil, so never ready, when there is none
	s.mu.Unlock()
	if !o.Committed || o.Xid == 0 || commit == nil {
		return freshet.Commit{}, false, s.cfg.Hub.Wait(ctx, o.Position)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error // once reached is closed
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		failed = s.cfg.Hub.Wait(waiting, o.Position)
	}()
	own, known := handedOver(commit, reached)
	if !known || own.Revision.Epoch != o.Position.Epoch {
		<-reached
		return freshet.Commit{}, false, failed
	}
	cancel()
	<-reached
	err := s.cfg.Hub.Wait(ctx, own.Revision)
	return own, err == nil, err
}

// handedOver waits for the first of both, and returns the commit if there is one then.
func handedOver(commit <-chan freshet.Commit, reached <-chan struct{}) (own freshet.Commit, known bool) {
	select {
	case own = <-commit:
		return own, true
	case <-reached:
	}
	select {
	case own = <-commit:
		return own, true
	default:
		return freshet.Commit{}, false
	}
}
