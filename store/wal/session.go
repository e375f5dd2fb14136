package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/internal/mono"
	"github.com/freshet-dev/freshet/store/setup"
)

// session is one attempt at following the WAL: its connections, and the
// goroutines that the attempt starts and waits for.
//
//	receive   socket → decode → gate          reads repl
//	release   gate → snapshot → sink          gateConn
//	pace      answers the walsender           writes repl
//	probe     primary's position, nudges, lag probeConn
//	watch     watchdog, set-up checks         watchConn
//	keep      keeps the window                keepConn
//	stay      asks where connections lead     one of its own, each time
//
// An error of any of them ends all, at once: a walsender that is behind keeps
// Postgres from shutting down. Before they start, and after they have ended,
// all fields are Run's goroutine's; in between, the fields are grouped by who
// may touch them.
type session struct {
	// Not changed while the loops run.
	f         *Feed
	log       *slog.Logger
	dial      *dialer
	repl      *pgconn.PgConn
	replPID   uint32
	home      incarnation // of the database that all connections have reached
	gateConn  *pgx.Conn   // each connection for SQL is used by its loop only
	probeConn *pgx.Conn
	watchConn *pgx.Conn
	copy      string        // the session's slot,
	copied    pglogrepl.LSN // and where it began

	// receive's.
	dec *decoder

	// watch's; before the loops start, start's.
	announced bool // the contract is recorded

	// keep's, which opens the connection anew when it breaks; before the loops start,
	// and in locks, start's.
	keepConn *pgx.Conn
	keepDial *dialer

	// release's.
	snap      *snapshot     // the last one, taken after snapAt
	snapAt    time.Time     //
	visibleAt uint64        // not before a snapshot's xmin reaches it; 0: what is below the slot is visible
	target    sample        // serve once applied is there; zero: not known yet
	gateSQL   string        // the gate's statement, with a glance at what the last look has read,
	glance    string        // and what that glance brought then
	looked    pglogrepl.LSN // a look at the catalog began when the WAL had reached this
	flushed   pglogrepl.LSN // the WAL had reached this when the last look began
	lastGap   time.Duration // the back-off after misses
	warned    bool          // a held commit was logged

	// Everybody's.
	mu          sync.Mutex    // guards gate
	gate        gate          // receive pushes, release takes
	enums       enums         // that columns of the sources have
	proven      atomic.Uint64 // recorded: everything that ends at or below is visible; 0: not known yet
	settled     atomic.Bool   // all that is below the session's slot is visible
	answered    mono.Mark     // when the probe was last answered
	relook      atomic.Bool   // what release knows of the catalog is out of date
	watched     chan struct{} // capacity 1: the catalog is to be looked at closely
	replyWanted chan struct{} // capacity 1: the walsender asked for an answer
	work        chan struct{} // capacity 1: the gate has something
	cut         sync.Once     // the replication socket is closed
}

// attempt runs one session. live says whether it got as far as streaming; err
// is never nil.
func (f *Feed) attempt(ctx context.Context) (live bool, err error) {
	s := &session{
		f: f, log: f.log, dial: newDialer(),
		gate: gate{limit: maxWaiting}, watched: make(chan struct{}, 1), replyWanted: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	defer s.close()
	defer func() { err = s.dial.cause(err) }()
	if err := s.connect(ctx); err != nil {
		return false, err
	}
	if err := s.start(ctx); err != nil {
		return false, err
	}
	f.fares(Capturing{Streams: true})
	f.connected(errors.New("capture is catching up"))
	defer func() {
		f.stats.waiting.Store(0)
		f.stats.heldSince.Clear()
	}()

	group, ctx := errgroup.WithContext(ctx)
	// The receiver blocks in a read that has no context (one per message
	// would cost a goroutine each); closing the socket ends it, and frees the
	// walsender at once.
	stop := context.AfterFunc(ctx, s.cutReplication)
	defer stop()
	for _, loop := range []func(context.Context) error{s.receive, s.release, s.pace, s.probe, s.watch, s.keep, s.stay} {
		group.Go(func() error { return loop(ctx) })
	}
	return true, group.Wait()
}

// codeNotInPrerequisiteState is the SQLSTATE of the warning in whose place
// PostgreSQL 17 ends the stream: the publication is missing.
const codeNotInPrerequisiteState = "55000"

// cutReplication ends whatever waits for the walsender, and frees that.
func (s *session) cutReplication() {
	s.cut.Do(func() {
		if s.repl != nil {
			_ = s.repl.Conn().Close()
		}
	})
}

// close closes the connections, and waits for what pgx does with them.
func (s *session) close() {
	s.cutReplication()
	s.closeKeep()
	// A farewell, if it doesn't take long; then the sockets are closed, and the
	// server notices.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var conns []*pgconn.PgConn
	for _, conn := range []*pgx.Conn{s.gateConn, s.probeConn, s.watchConn} {
		if conn != nil {
			_ = conn.Close(ctx)
			conns = append(conns, conn.PgConn())
		}
	}
	if s.repl != nil {
		_ = s.repl.Close(ctx)
		conns = append(conns, s.repl)
	}
	for _, conn := range conns {
		select {
		case <-conn.CleanupDone():
		case <-ctx.Done():
		}
	}
	s.dial.close()
	for _, conn := range conns {
		<-conn.CleanupDone() // its socket is closed, and it can open no other
	}
}

// farewell closes a connection that has a dialer of its own, with a goodbye that doesn't
// take long.
func farewell(conn *pgx.Conn, dial *dialer) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
	dial.close()
	<-conn.PgConn().CleanupDone()
}

// connectTimeout bounds the making of a session's connections.
const connectTimeout = 10 * time.Second

// connect opens the session's connections but for the keeper's; the one for
// replication last, once the set-up is known to be good.
func (s *session) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, c := range []struct {
		conn     **pgx.Conn
		settings map[string]string
	}{{&s.watchConn, nil}, {&s.gateConn, glanceSettings}, {&s.probeConn, nil}} {
		if *c.conn, err = s.openConn(ctx, c.settings); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	if err := s.checkSetup(ctx); err != nil {
		return err
	}
	if s.repl, err = s.openReplication(ctx); err != nil {
		return fmt.Errorf("connect for replication: %w", err)
	}
	s.replPID = s.repl.PID()
	return nil
}

// start brings the session to the point where the stream begins: epoch, slot,
// watchdog, START_REPLICATION.
func (s *session) start(ctx context.Context) error {
	f := s.f
	now, err := s.identify(ctx)
	if err != nil {
		return err
	}
	s.home = now
	epoch, fresh, err := resolveEpoch(ctx, s.watchConn, now, history{f.epoch, f.incarnation}, f.position())
	if err != nil {
		return err
	}
	if err := f.resolveSecret(ctx, s.watchConn, epoch); err != nil {
		return err
	}
	if fresh {
		s.log.LogAttrs(ctx, slog.LevelInfo, "a new epoch begins", slog.Uint64("epoch", uint64(epoch)))
	}
	if err := s.openKeep(ctx, history{epoch, now}); err != nil {
		return err
	}
	if f.epoch != epoch {
		f.useless.Store(0) // of another history
	}
	slot, err := s.openSlot(ctx)
	if err != nil {
		return err
	}
	recorded := slot.proven
	if f.serving && f.epoch == epoch {
		slot.proven = max(slot.proven, f.position()) // by this process
	}
	if !slot.allVisible() {
		// An id of our own is above every id given so far. A snapshot's xmax is
		// not: it is one above the last that has *ended*, so that a commit
		// which hangs, begun after that one, would be missed.
		err := s.gateConn.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&s.visibleAt)
		if err != nil {
			return err
		}
	}
	if err := s.startLooking(ctx); err != nil {
		return err
	}

	// From where? A commit that both the sink and the stream have is told
	// apart by its position.
	if f.epoch != epoch || !slot.allVisible() || slot.confirmed > f.position() {
		// Another history; or a slot that begins above what we have, because
		// it is new, or because the window was moved on without us: nothing below is
		// known.
		f.epoch, f.incarnation, f.serving = epoch, now, false
		f.window.marks = nil
		f.applied.Store(uint64(slot.confirmed))
		f.cfg.Sink.Begin(f.revision(slot.confirmed))
	}
	f.window.moved(slot.confirmed)
	// What the sink has needs no replay.
	from := max(slot.confirmed, f.position())
	if err := s.startReplication(ctx, from); err != nil {
		return err
	}
	if slot.allVisible() {
		s.proven.Store(uint64(recorded))
		s.settled.Store(true)
	}
	socketOf(s.repl.Conn()).allow(0) // checkAlive judges from here on
	f.received.Store(uint64(from))
	s.answered.Set(time.Now())
	s.dec = newDecoder(f.cfg.Program, &s.enums, func() { signal(s.watched) })
	s.dec.reasons = newReasons(f.cfg.Explain)
	return s.checkSyncState(ctx)
}

// identify names the database, and proves that all connections have reached the
// same one: a URL can name several servers, and a name can change hands while
// they are made.
func (s *session) identify(ctx context.Context) (now incarnation, err error) {
	const here = `
select extract(epoch from pg_postmaster_start_time())::text || ' ' || (select oid from pg_database where datname = current_database())`
	system, err := pglogrepl.IdentifySystem(ctx, s.repl)
	if err != nil {
		return now, fmt.Errorf("identify system: %w", err)
	}
	results, err := s.repl.Exec(ctx, here).ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 {
		return now, fmt.Errorf("identify the database: %w", err)
	}
	stream := string(results[0].Rows[0][0])
	for _, conn := range []*pgx.Conn{s.watchConn, s.gateConn, s.probeConn} {
		var statements string
		if err := conn.QueryRow(ctx, here).Scan(&statements); err != nil {
			return now, fmt.Errorf("identify the database: %w", err)
		}
		if statements != stream {
			return now, errors.New("the connections have reached different servers or databases")
		}
	}
	now.systemIdentifier, now.timeline = system.SystemID, int64(system.Timeline)
	err = s.watchConn.QueryRow(ctx, `select pg_postmaster_start_time(), (select oid from pg_database where datname = current_database())`).
		Scan(&now.postmasterStart, &now.database)
	return now, err
}

func (s *session) startReplication(ctx context.Context, from pglogrepl.LSN) error {
	f := s.f
	err := pglogrepl.StartReplication(ctx, s.repl, s.copy, from, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: pluginArguments(f.cfg.Publication),
	})
	if err != nil {
		return s.streamError(fmt.Errorf("start replication from slot %q: %w", s.copy, err))
	}
	return nil
}

// pluginArguments are pgoutput's. Version 1 of its protocol is all that the decoder
// knows: no transactions in progress, none that are only prepared.
func pluginArguments(publication string) []string {
	return []string{"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'"}
}

// streamError takes an error of the replication stream. A publication that is
// missing there, though the set-up checks have seen it, is younger than the
// WAL that the slot decodes (decoding reads the historic catalog): no start
// will ever succeed from where the window began then. (All nodes find that out, and
// the first of them makes another window: so it isn't the slot's name that counts.)
func (s *session) streamError(err error) error {
	if setup.SQLState(err) == setup.CodeUndefinedObject {
		s.f.useless.Store(uint64(s.copied))
	}
	return err
}

// checkSetup refuses a database that isn't set up, before a connection for
// replication and a slot are opened. Once the node has served, what is wrong with
// one source is for quarantine: the others, and reads, go on.
func (s *session) checkSetup(ctx context.Context) error {
	problems, err := setup.Check(ctx, s.watchConn, s.f.cfg.Program, s.f.cfg.Publication)
	if err != nil {
		return err
	}
	if s.f.served {
		problems = slices.DeleteFunc(problems, func(p setup.Problem) bool { return p.Source != "" })
	}
	// All at once, so that whoever sets it up needn't come back. (A server that is too
	// old for the first look may fail the second.)
	slot, err := setup.CheckSlot(ctx, s.watchConn, s.f.cfg.Slot)
	if fatal := setup.Fatal(append(problems, slot...)); len(fatal) > 0 {
		return &setup.Error{Problems: fatal}
	}
	if err != nil {
		return err
	}
	others, err := setup.CheckNodes(ctx, s.watchConn, s.f.cfg.Slot, s.f.cfg.Publication)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		s.log.LogAttrs(ctx, slog.LevelWarn, "nodes of one slot differ", slog.Any("problem", &setup.Error{Problems: others}))
	}
	s.setUnsound(ctx, nil)
	return nil
}

// checkSyncState refuses to be a synchronous standby.
func (s *session) checkSyncState(ctx context.Context) error {
	problems, err := setup.CheckSyncStandby(ctx, s.watchConn, s.replPID)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return &setup.Error{Problems: problems}
	}
	return nil
}

// checkAlive ends a session whose walsender has said nothing for too long, and
// has no reason: it is gone, or has nothing to do but to answer us. A limit to
// the stream's silence alone would end each session at the same place where
// decoding something huge takes longer than that.
func (s *session) checkAlive(ctx context.Context) error {
	silent := socketOf(s.repl.Conn()).silent()
	if silent < streamSilence {
		return nil
	}
	var busy bool
	if err := s.watchConn.QueryRow(ctx, `select `+walsenderBusy, s.replPID).Scan(&busy); err != nil {
		return fmt.Errorf("look after the walsender: %w", err)
	}
	if !busy {
		return fmt.Errorf("the replication stream is silent: %w: nothing for %s", errSilent, silent.Round(time.Second))
	}
	return nil
}

// walsenderBusy is whether the backend with the pid $1 is there, and does
// anything but wait for its client.
const walsenderBusy = `exists (select from pg_stat_activity where pid = $1 and coalesce(wait_event_type, '') not in ('Activity', 'Client'))`

// signal marks a capacity-1 channel without blocking.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
