package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// session is one attempt at following the WAL: its connections, and the
// goroutines that the attempt starts and waits for.
//
//	receive   socket → decode → gate          (repl)
//	release   gate → snapshot → sink          (gate connection)
//	pace      answers the walsender           (writes to repl)
//	probe     primary's position, nudges, lag (probe connection)
//	watch     watchdog, set-up checks         (watch connection)
//
// An error of any of them ends all, at once: a walsender that is behind keeps
// Postgres from shutting down.
type session struct {
	f   *Feed
	log *slog.Logger

	repl        *pgconn.PgConn
	gateConn    *pgx.Conn
	probeConn   *pgx.Conn
	watchConn   *pgx.Conn
	replPID     uint32
	dec         *decoder      // receive only
	watched     chan struct{} // capacity 1: a table was described anew
	replyWanted chan struct{} // capacity 1: the walsender asked for an answer
	work        chan struct{} // capacity 1: the gate has something
	received    atomic.Uint64 // the stream has brought everything that ends at or below
	snap        *snapshot     // release only: the last one, taken after snapAt
	snapAt      time.Time     // release only
	settleAt    uint64        // release only: not before a snapshot's xmin reaches it; 0: settled
	target      sample        // release only: serve once applied is there; zero: not known yet
	lastGap     time.Duration // release only: the back-off after misses
	warned      bool          // release only: a held commit was logged
	mu          sync.Mutex    // guards gate
	gate        gate
	closeOnce   sync.Once
}

// Parameters of our own connections. A paused holder loses the slot after
// wal_sender_timeout. A nudge and the epoch must not wait for a standby.
const (
	applicationName  = "freshet"
	walSenderTimeout = "4s"
)

// attempt runs one session. live says whether it got as far as streaming; err
// is never nil.
func (f *Feed) attempt(ctx context.Context) (live bool, err error) {
	s := &session{
		f: f, log: f.log,
		gate: gate{limit: maxWaiting}, watched: make(chan struct{}, 1), replyWanted: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	defer s.close()
	if err := s.connect(ctx); err != nil {
		return false, err
	}
	if err := s.start(ctx); err != nil {
		return false, err
	}
	f.mu.Lock()
	f.notReady = errors.New("capture is catching up")
	if f.serving {
		f.notReady = nil
	}
	f.decoded = time.Now()
	f.cut = make(chan struct{})
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		close(f.cut)
		f.cut, f.probes = nil, nil
		f.mu.Unlock()
		f.stats.waiting.Store(0)
		f.stats.heldSince.Store(0)
	}()

	group, ctx := errgroup.WithContext(ctx)
	// The receiver blocks in a read that has no context (one per message
	// would cost a goroutine each); closing the socket ends it, and frees the
	// walsender at once.
	stop := context.AfterFunc(ctx, s.cutReplication)
	defer stop()
	for _, loop := range []func(context.Context) error{s.receive, s.release, s.pace, s.probe, s.watch} {
		group.Go(func() error { return loop(ctx) })
	}
	return true, group.Wait()
}

// SQLSTATEs that mean something to us (PostgreSQL manual, appendix A).
const (
	codeUndefinedObject = "42704"
	codeObjectInUse     = "55006"
)

func (s *session) cutReplication() {
	s.closeOnce.Do(func() {
		if s.repl != nil {
			_ = s.repl.Conn().Close()
		}
	})
}

func (s *session) close() {
	s.cutReplication()
	// A context that is over: the sockets are closed without a farewell that
	// could block; the server notices.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for _, conn := range []*pgx.Conn{s.gateConn, s.probeConn, s.watchConn} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
}

// connect opens the session's four connections; the one for replication last,
// once the set-up is known to be good.
func (s *session) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, conn := range []**pgx.Conn{&s.watchConn, &s.gateConn, &s.probeConn} {
		if *conn, err = openConn(ctx, s.f.cfg.URL); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	if err := s.checkSetup(ctx); err != nil {
		return err
	}
	config, err := pgconn.ParseConfig(s.f.cfg.URL)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["application_name"] = applicationName
	config.RuntimeParams["wal_sender_timeout"] = walSenderTimeout
	config.BuildFrontend = newFrontend(s.f.cfg.Linger)
	if s.repl, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return fmt.Errorf("connect for replication: %w", err)
	}
	s.replPID = s.repl.PID()
	return nil
}

// openConn opens a connection of the feed's own.
func openConn(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = applicationName
	config.RuntimeParams["synchronous_commit"] = "local"
	return pgx.ConnectConfig(ctx, config)
}

// start brings the session to the point where the stream begins: epoch, slot,
// watchdog, START_REPLICATION.
func (s *session) start(ctx context.Context) error {
	f := s.f
	system, err := pglogrepl.IdentifySystem(ctx, s.repl)
	if err != nil {
		return fmt.Errorf("identify system: %w", err)
	}
	now := incarnation{systemIdentifier: system.SystemID, timeline: int64(system.Timeline)}
	if err := s.watchConn.QueryRow(ctx, `select pg_postmaster_start_time()`).Scan(&now.postmasterStart); err != nil {
		return err
	}
	epoch, fresh, err := resolveEpoch(ctx, s.watchConn, now, history{f.epoch, f.incarnation})
	if err != nil {
		return err
	}
	if fresh {
		s.log.LogAttrs(ctx, slog.LevelInfo, "a new epoch begins", slog.Uint64("epoch", uint64(epoch)))
	}
	slot, err := s.openSlot(ctx)
	if err != nil {
		return err
	}
	if !slot.settled {
		// An id of our own is above every id given so far. A snapshot's xmax is
		// not: it is one above the last that has *ended*, so that a commit
		// which hangs, begun after that one, would be missed.
		err := s.gateConn.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&s.settleAt)
		if err != nil {
			return err
		}
	}
	if err := s.checkSources(ctx); err != nil {
		return err
	}

	// From where? A commit that both the sink and the stream have is told
	// apart by its position.
	switch applied := f.position(); {
	case f.epoch != epoch || !slot.settled || slot.confirmed > applied:
		// Another history; or a slot that begins above what we have, because
		// it is new, or because another holder moved it: nothing below is known.
		f.epoch, f.incarnation, f.serving = epoch, now, false
		f.window.confirmed, f.window.marks = slot.confirmed, nil
		f.applied.Store(uint64(slot.confirmed))
		f.cfg.Sink.Begin(f.revision(slot.confirmed))
	default:
		f.window.confirmed = max(f.window.confirmed, slot.confirmed)
	}
	if err := s.startReplication(ctx, slot.confirmed); err != nil {
		return err
	}
	s.received.Store(uint64(slot.confirmed))
	s.dec = newDecoder(f.cfg.Program, func() { signal(s.watched) })
	return s.checkSyncState(ctx)
}

func (s *session) startReplication(ctx context.Context, from pglogrepl.LSN) error {
	f := s.f
	err := pglogrepl.StartReplication(ctx, s.repl, f.cfg.Slot, from, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names '" + f.cfg.Publication + "'",
			"messages 'true'",
		},
	})
	if sqlState(err) == codeObjectInUse {
		return fmt.Errorf("%w: %w", ErrStandby, err)
	}
	if err != nil {
		return s.streamError(fmt.Errorf("start replication from slot %q: %w", f.cfg.Slot, err))
	}
	return nil
}

// streamError takes an error of the replication stream. A publication that is
// missing there, though the set-up checks have seen it, is younger than the
// WAL that the slot decodes (decoding reads the historic catalog): no start
// will ever succeed from this slot.
func (s *session) streamError(err error) error {
	if sqlState(err) == codeUndefinedObject {
		s.f.recreate = true
	}
	return err
}

// checkSyncState refuses to be a synchronous standby: with
// synchronous_standby_names = '*' our late confirmations would hang every
// commit of the database.
func (s *session) checkSyncState(ctx context.Context) error {
	var state string
	err := s.watchConn.QueryRow(ctx, `select coalesce((select sync_state from pg_stat_replication where pid = $1), 'async')`, s.replPID).Scan(&state)
	if err != nil {
		return fmt.Errorf("check sync_state: %w", err)
	}
	if state != "async" {
		return &SetupError{Problems: []Problem{syncStandbyProblem(state)}}
	}
	return nil
}

// signal marks a capacity-1 channel without blocking.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
