package wal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store/setup"
)

// following is the feed's state while others tell it. It begins where capture has left
// off, and capture where it does.
type following struct {
	mu       sync.Mutex // guards what follows, and the feed's epoch, serving and served while it lasts
	lasts    bool       // a session of Follow is connected
	captured bool       // Capture has run since

	Following
}

// leave is called when capture begins, and returns what is in quarantine.
func (w *following) leave() (held []freshet.Pattern) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held, w.held, w.captured = w.held, nil, true
	return held
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
	epoch, fresh, err := resolveEpoch(ctx, s.probeConn, now, history{f.epoch, f.incarnation}, f.position())
	if err != nil {
		return err
	}
	if err := f.resolveSecret(ctx, s.probeConn, epoch); err != nil {
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
	spelling, err := readSpelling(ctx, s.probeConn, f.cfg.Program)
	if err != nil {
		return err
	}
	f.spelling.Store(spelling)
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
	if !f.serving {
		f.applied.Store(0)
	}
	f.received.Store(f.applied.Load())
	if w.captured {
		w.held, w.holder, w.counted, w.captured = f.quarantine.heldFloors(), 0, 0, false
	}
	w.Start(Start{
		Applied: f.revision(f.position()), Incarnation: now.number(), Serving: f.serving,
		Target: uint64(insert), TargetTime: at,
	})
	w.lasts = true
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
	return w.Following.Place()
}

// Apply gives the sink what another node has told, while Follow runs. It returns false
// if nothing was done because it doesn't fit: it is of another history, or begins above
// what is known. What is known already is left out. Safe for concurrent use.
func (f *Feed) Apply(t Told) bool {
	w := &f.following
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.lasts || !w.Following.Apply(t) {
		return false
	}
	began := w.serving && (!f.serving || t.Begin)
	f.serving = w.serving
	f.applied.Store(w.applied.Position)
	f.received.Store(max(f.received.Load(), t.Received))
	switch {
	case !w.serving:
		f.Nudge()
	case began:
		f.served = true
		f.setNotReady(nil)
		f.log.Info("the node is told by another one what changes", "revision", w.applied.String())
	}
	return true
}

// publishTold is apply, of a commit that has passed another node's gate. The caller holds
// following.mu.
func (f *Feed) publishTold(c ToldCommit) {
	f.stats.commits.Add(1)
	if c.Alone && f.following.serving {
		own := c.Commit
		if len(own.Floors) > 0 {
			own.Topics = nil // not known one by one
		}
		f.passes(c.XID, own)
	}
	if f.cfg.BeforeTold != nil && c.Alone {
		f.cfg.BeforeTold(c.XID, c.Commit)
	}
	f.cfg.Sink.Publish(c.Commit)
	f.applied.Store(c.Revision.Position)
}
