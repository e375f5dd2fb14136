package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store/setup"
)

// Told is what another node that captures the same database (the holder) has told of
// it: a stretch of the WAL that has passed that node's gate (package server/relay).
// Being visible on the primary is a fact whoever has found it out, so it is as good as
// what this node would have captured itself.
type Told struct {
	Epoch       freshet.Epoch
	Incarnation uint64 // as History has it

	Holder   uint64 // who tells; not zero
	Sequence uint64 // rises with all that one holder tells
	Previous uint64 // the stretch is all that ends above, and
	Position uint64 // at or below
	Received uint64 // the holder has decoded all that ends at or below; 0: it doesn't say

	// Begin says that nothing at or below Previous is known, and that all of it is
	// visible: the sink begins anew. Only a holder that serves can know.
	Begin bool
	// Commits of the stretch, in order.
	Commits []ToldCommit
	// Quarantine is what was in quarantine while the stretch was told.
	Quarantine []freshet.Pattern
}

// ToldCommit is a commit, and the low 32 bits of its transaction's id, if it is one
// commit alone and they are known.
type ToldCommit struct {
	freshet.Commit
	XID   uint32
	Alone bool
}

// following is the feed's state while others tell it. It begins where capture has left
// off, and capture where it does.
//
// Invariants:
//   - the sink is given a stretch only if the frontier has reached its beginning, in
//     the epoch and incarnation that a connection of this node's own has shown;
//   - what one holder holds in quarantine is let go when that holder says so, which
//     has told all of it then (quarantine's Q3). Of another one's, nobody has told this
//     node so: its topics are told anew first, at a position above the frontier.
type following struct {
	mu       sync.Mutex // guards what follows, and the feed's epoch, serving and served while it lasts
	lasts    bool       // a session of Follow is connected
	begun    bool       // the sink's table reaches without a gap to what was applied
	captured bool       // Capture has run since
	target   sample     // serve once applied is there

	held    []freshet.Pattern // in quarantine
	holder  uint64            // who has said so; 0: this node itself
	counted uint64            // the holder's number of what said so
	said    bool              // the sink was told in this session
}

// leave is called when capture begins, and returns what is in quarantine.
func (w *following) leave() (held []freshet.Pattern) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held, w.held, w.captured = w.held, nil, true
	return held
}

// hold returns what is in quarantine once t is applied, and of what else everything has
// to be told first. moves says whether t moves the frontier. The caller holds mu.
func (w *following) hold(t *Told, moves bool) (held, untold []freshet.Pattern) {
	switch {
	case t.Holder == w.holder && t.Sequence <= w.counted: // said before what is known
		return w.held, nil
	case t.Holder == w.holder, t.Begin, len(w.held) == 0:
	case moves:
		untold = slices.DeleteFunc(slices.Clone(w.held), func(p freshet.Pattern) bool { return slices.Contains(t.Quarantine, p) })
	default:
		return union(w.held, t.Quarantine), nil
	}
	w.holder, w.counted = t.Holder, t.Sequence
	return t.Quarantine, untold
}

// union returns a and what else is in b.
func union(a, b []freshet.Pattern) []freshet.Pattern {
	all := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Follow has Apply move the feed in the place of a replication stream, until ctx ends:
// there is one connection, which names the epoch, answers InsertPosition and Nudge, and
// shows how far the primary is. So Ready, and what the sink is told by Current, rest on
// no clock and no word of other nodes.
func (f *Feed) Follow(ctx context.Context) { f.sessions(ctx, f.attemptFollowing) }

func (f *Feed) attemptFollowing(ctx context.Context) (live bool, err error) {
	s := &session{f: f, log: f.log, dial: newDialer()}
	defer s.close()
	defer func() { err = s.dial.cause(err) }()
	if err := s.startFollowing(ctx); err != nil {
		return false, err
	}
	defer func() {
		f.following.mu.Lock()
		f.following.lasts = false
		f.following.mu.Unlock()
	}()
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context) error{s.probe, s.stay} {
		group.Go(func() error { return loop(ctx) })
	}
	return true, group.Wait()
}

// startFollowing connects, and finds out what the database is and in which epoch.
func (s *session) startFollowing(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	f := s.f
	if s.probeConn, err = s.openConn(ctx, nil); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	now, err := identifyBySQL(ctx, s.probeConn)
	if err != nil {
		return err
	}
	epoch, fresh, err := resolveEpoch(ctx, s.probeConn, now, history{f.epoch, f.incarnation})
	if err != nil {
		return err
	}
	if fresh {
		s.log.InfoContext(ctx, "a new epoch begins", "epoch", uint64(epoch))
	}
	s.setUnsound(ctx, nil) // whoever captures looks
	// That a node with this contract lives, nodes with another are to see.
	class, key := setup.VersionLock(f.cfg.Program.Hash())
	if _, err := s.probeConn.Exec(ctx, `select pg_try_advisory_lock_shared($1, $2)`, class, key); err != nil {
		return err
	}
	at := time.Now()
	var insert pglogrepl.LSN
	if err := s.probeConn.QueryRow(ctx, `select pg_current_wal_insert_lsn()`).Scan(&insert); err != nil {
		return fmt.Errorf("read the insert position: %w", err)
	}
	s.home = now
	w := &f.following
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.epoch != epoch {
		f.epoch, f.incarnation, f.serving = epoch, now, false
		f.window.marks = nil
		f.useless.Store(0)
		f.cfg.Sink.Begin(f.revision(insert)) // what was served until now has ended
	}
	// Of a table that has not served it isn't known that all below is visible.
	w.begun = f.serving
	if !f.serving {
		f.applied.Store(0)
	}
	f.received.Store(f.applied.Load())
	w.target = sample{at: at, lsn: insert}
	if w.captured {
		w.held, w.holder, w.counted, w.captured = f.quarantine.heldFloors(), 0, 0, false
	}
	w.said, w.lasts = false, true
	f.connected(errors.New("the node is waiting for another one to tell what has changed"))
	return nil
}

// identifyBySQL is identify where there is no connection for replication. The timeline is
// that of what the database writes: pg_control has the last checkpoint's. A standby, which
// writes none, is an error.
func identifyBySQL(ctx context.Context, conn *pgx.Conn) (now incarnation, err error) {
	err = conn.QueryRow(ctx, `
select (select system_identifier::text from pg_control_system()), ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint,
  pg_postmaster_start_time(), (select oid from pg_database where datname = current_database())`).
		Scan(&now.systemIdentifier, &now.timeline, &now.postmasterStart, &now.database)
	if err != nil {
		return now, fmt.Errorf("identify the database: %w", err)
	}
	return now, nil
}

// Place returns where what is told would have to begin: in this history (epoch 0: the
// feed doesn't follow), and at or below this position, from which on nothing is
// missing; begun is false if there is no such position.
func (f *Feed) Place() (at freshet.Revision, incarnation uint64, begun bool) {
	w := &f.following
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.lasts {
		return freshet.Revision{}, 0, false
	}
	return f.revision(f.position()), f.incarnation.number(), w.begun
}

// Apply gives the sink what another node has told, while Follow runs. It returns false
// if nothing was done because it doesn't fit: it is of another history, or begins above
// what is known. What is known already is left out. Safe for concurrent use.
func (f *Feed) Apply(t Told) bool {
	w := &f.following
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.lasts || t.Epoch != f.epoch || t.Incarnation != f.incarnation.number() {
		return false
	}
	if !t.Begin && (!w.begun || t.Previous > f.applied.Load()) {
		return false
	}
	if t.Begin {
		f.serving, w.begun = false, true
		f.cfg.Sink.Begin(f.revision(pglogrepl.LSN(t.Previous)))
		f.applied.Store(t.Previous)
	}
	held, untold := w.hold(&t, t.Position > f.applied.Load())
	f.hold(union(w.held, held))
	for _, c := range t.Commits {
		if c.Revision.Position <= f.applied.Load() {
			continue
		}
		c.Floors, untold = union(c.Floors, untold), nil
		f.applyTold(c)
	}
	if rev := f.revision(pglogrepl.LSN(t.Position)); t.Position > f.applied.Load() {
		switch {
		case len(untold) > 0:
			f.cfg.Sink.Publish(freshet.Commit{Revision: rev, Floors: untold})
		case f.serving:
			f.cfg.Sink.Advance(rev)
		}
		f.applied.Store(t.Position)
	}
	f.hold(held)
	f.received.Store(max(f.received.Load(), t.Received))
	f.serveTold()
	return true
}

// hold tells the sink what is in quarantine. The caller holds following.mu.
func (f *Feed) hold(held []freshet.Pattern) {
	w := &f.following
	if w.said && slices.Equal(held, w.held) {
		return
	}
	w.said, w.held = true, held
	f.cfg.Sink.Quarantine(held)
}

// applyTold is apply, of a commit that has passed another node's gate. The caller holds
// following.mu.
func (f *Feed) applyTold(c ToldCommit) {
	f.stats.commits.Add(1)
	if f.cfg.BeforeTold != nil && c.Alone {
		f.cfg.BeforeTold(c.XID, c.Commit)
	}
	f.cfg.Sink.Publish(c.Commit)
	f.applied.Store(c.Revision.Position)
	if c.Alone && f.serving {
		if len(c.Floors) > 0 {
			c.Topics = nil // not known one by one
		}
		f.passed(c.XID, c.Commit)
	}
}

// serveTold is catchUp: the sink serves from where the primary was when the session
// began. The caller holds following.mu.
func (f *Feed) serveTold() {
	w := &f.following
	if f.serving {
		return
	}
	if f.position() < w.target.lsn {
		f.Nudge()
		return
	}
	f.serving, f.served = true, true
	f.cfg.Sink.Current(w.target.at)
	f.cfg.Sink.Serve(f.revision(f.position()))
	f.setNotReady(nil)
	f.log.Info("the node is told by another one what changes", "revision", f.revision(f.position()).String())
}
