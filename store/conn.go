package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/oneline"
)

// tag is what a connection is known to read. What is written on a connection is
// stamped with its tag, whatever the call has asked for. So these hold:
//
//	T1  A tag names the epoch of the server's history for as long as the connection
//	    lives. It is only taken from a row that was written since this postmaster
//	    started, so what ends that epoch comes later, and ends or refuses all
//	    connections: a shutdown, a crash, a promotion. An older row says nothing:
//	    crash recovery and a promotion empty the table, but a clean shutdown keeps
//	    it, and a cold copy has it. Until a node begins the next epoch, then, there is
//	    none (ErrNoEpoch), as after a crash.
//	T2  No connection is handed out of an epoch that is known to have ended: one below
//	    DB.latest. A node may also begin the next epoch of a server that goes on (see
//	    resolveEpoch in store/wal), and a copy's epoch may be a lower one.
//
// Behind a pooler the tag is only what the last transaction has proved, by the same
// statement.
type tag struct {
	epoch  freshet.Epoch
	opened time.Time
	// pooled says that somebody between us and the server hands its connections on,
	// so that the next transaction may be another server's. prepares says that the
	// connection is to be replaced by one that prepares no statements.
	pooled, prepares bool
}

// tagKey is where a connection's tag is, in its CustomData.
const tagKey = "freshet.tag"

func tagOf(conn *pgx.Conn) tag {
	t, _ := conn.PgConn().CustomData()[tagKey].(tag)
	return t
}

func setTag(conn *pgx.Conn, t tag) { conn.PgConn().CustomData()[tagKey] = t }

// tagSQL asks which history a session reads, and which process serves it. It
// stands here because it is sent by the simple protocol: nothing of ours is
// prepared behind a pooler, and several statements cost one round trip.
// Rows that say nothing (T1) are left out: of before the server's start, or come here
// with a dump of another database. But a standby is to be known as one, also where
// somebody has made the table a logged one.
const tagSQL = "select epoch, pg_is_in_recovery(), pg_backend_pid()" + fromIncarnationSQL

// lineageSQL asks for the lineage, too: of the primary, where there are replicas.
const lineageSQL = "select epoch, pg_is_in_recovery(), pg_backend_pid(), system_identifier, timeline, " +
	"(select oid from pg_database where datname = current_database())" + fromIncarnationSQL

const fromIncarnationSQL = " from freshet.incarnation " +
	"where database in (0, (select oid from pg_database where datname = current_database())) " +
	"and (pg_is_in_recovery() or postmaster_start = pg_postmaster_start_time())"

// lockTimeoutSQL bounds waits for locks, where neither the URL nor anybody else
// has; for the transaction only, or for the session.
const lockTimeoutSQL = "select set_config('lock_timeout', '5s', %t) where current_setting('lock_timeout') = '0'"

var (
	sessionLockTimeoutSQL     = fmt.Sprintf(lockTimeoutSQL, false)
	transactionLockTimeoutSQL = fmt.Sprintf(lockTimeoutSQL, true)
)

// afterConnect looks, once per connection, at which history it reads and by whom
// it is served. An error refuses the connection.
func (d *DB) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, d.replicas.tagSQL()).ReadAll()
	t, err := parseTag(results, err)
	if err != nil {
		return err
	}
	// The id that came with the connection is the server's own, unless somebody
	// answers in its place.
	t.pooled = t.backend != conn.PgConn().PID()
	t.prepares = t.pooled && !d.execModeGiven && conn.Config().DefaultQueryExecMode != pooledExecMode
	t.opened = time.Now()
	setTag(conn, t.tag)
	lineOf(conn).epoch.Store(uint32(t.epoch))
	d.replicas.learn(t)
	if t.pooled {
		if !d.pooled.Swap(true) {
			d.logger.LogAttrs(ctx, slog.LevelInfo, "the database URL leads through a pooler: each call proves in its own transaction what it reads")
		}
		return nil // its session isn't ours to set
	}
	_, err = conn.PgConn().Exec(ctx, sessionLockTimeoutSQL).ReadAll()
	return err
}

// Pooled reports whether what connect says leads through a pooler, which answers
// in the server's place. What it needs of the database is a connection.
func Pooled(ctx context.Context, connect func(context.Context) (*pgx.ConnConfig, error)) (bool, error) {
	config, err := connect(ctx)
	if err != nil {
		return false, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, oneline.Error(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	results, err := conn.PgConn().Exec(ctx, "select pg_backend_pid()").ReadAll()
	if err != nil {
		return false, err
	}
	return string(results[0].Rows[0][0]) != strconv.FormatUint(uint64(conn.PgConn().PID()), 10), nil
}

type answeredTag struct {
	tag
	backend uint32   // the process that serves the session
	row     [][]byte // all of the answer
}

// lineage is that of the epoch, in an answer to lineageSQL.
func (t answeredTag) lineage() lineage {
	return lineage{epoch: t.epoch, system: string(t.row[3]), timeline: string(t.row[4]), database: string(t.row[5])}
}

// parseTag reads the last result as tagSQL's or lineageSQL's.
func parseTag(results []*pgconn.Result, err error) (t answeredTag, _ error) {
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == codeUndefinedTable || pg.Code == codeInvalidSchema):
		return t, fmt.Errorf("%w: %w", ErrNoEpoch, err)
	case errors.As(err, &pg) && pg.Code == codeFeatureNotSupported: // unlogged tables can't be read
		return t, ErrStandby
	case err != nil:
		return t, err
	}
	rows := results[len(results)-1].Rows
	if len(rows) == 0 {
		return t, ErrNoEpoch
	}
	if string(rows[0][1]) != "f" {
		return t, ErrStandby
	}
	epoch, err := strconv.ParseUint(string(rows[0][0]), 10, 32)
	if err != nil {
		return t, fmt.Errorf("epoch: %w", err)
	}
	backend, err := strconv.ParseUint(string(rows[0][2]), 10, 32)
	if err != nil {
		return t, fmt.Errorf("backend: %w", err)
	}
	t.epoch, t.backend, t.row = freshet.Epoch(epoch), uint32(backend), rows[0]
	return t, nil
}

// beginProven opens a transaction on a pooled connection, and proves in it that
// it reads the epoch (zero: any): the server behind may be another one than a
// moment ago (F86).
//
// It sets the session too, after the rest: who that is may read what is asked here,
// but it has a role's rights.
func (d *DB) beginProven(ctx context.Context, conn *pgxpool.Conn, begin string, session *Session, epoch freshet.Epoch) error {
	results, err := exec(ctx, conn, begin+"; "+transactionLockTimeoutSQL+"; "+d.replicas.tagSQL()+session.sql())
	if denied := session.refused(err); errors.Is(denied, ErrDenied) {
		return denied
	}
	if session != nil && err == nil {
		results = results[:len(results)-1]
	}
	proven, err := parseTag(results, err)
	if err != nil {
		return err
	}
	d.replicas.learn(proven)
	t := tagOf(conn.Conn())
	t.epoch = proven.epoch
	setTag(conn.Conn(), t)
	lineOf(conn.Conn()).epoch.Store(uint32(t.epoch)) // before what follows looks which is known
	if epoch != 0 && epoch != t.epoch || t.epoch < d.known() {
		return ErrEpoch
	}
	return nil
}

// wantKey carries what an acquisition wants to checkTag.
type wantKey struct{}

type want struct {
	epoch freshet.Epoch
	since time.Time
}

// checkTag decides whether a connection may serve the call: see
// pgxpool.Config.PrepareConn for the four answers. It holds T2.
func (d *DB) checkTag(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
	w, _ := ctx.Value(wantKey{}).(want)
	t := tagOf(conn)
	switch {
	case t.pooled:
		return !t.prepares, nil // which epoch it is, its transaction will tell
	case t.epoch >= max(w.epoch, d.known()):
		if w.epoch != 0 && w.epoch != t.epoch {
			return true, ErrEpoch // the caller is behind, the connection is not
		}
		return true, nil
	case t.opened.After(w.since):
		return false, ErrEpoch // just opened, and the database is still behind
	default:
		return false, nil // left over from an earlier epoch: open another
	}
}

// pooledExecMode is how statements are sent through a pooler, if the URL says
// nothing: they are described anew each time. A prepared one would be on the
// server connection of a moment ago; and mode exec, which saves that round trip,
// guesses the types of arguments.
const pooledExecMode = pgx.QueryExecModeDescribeExec

// beforeConnect completes the settings of a connection that is to be opened.
func (d *DB) beforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	// A password or certificate in a file may have been replaced (F59).
	now, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	*config = *now
	configure(config)
	if d.pooled.Load() && !d.execModeGiven {
		config.DefaultQueryExecMode = pooledExecMode
	}
	d.sockets.watch(config)
	return nil
}

// line is what is kept of a connection beside pgx, which may have several sockets: it
// dials for a connection, and again to ask the server to cancel what it does there, as it
// does when a connection breaks. That is right for a query. But a COMMIT that waits for
// a standby would become visible before the standby has it, and one that is still being
// checked would fail; and a server that hangs is asked for 15 s, for which pgxpool counts
// the connection.
type line struct {
	epoch      atomic.Uint32 // that of the connection's tag; 0: it has none yet
	committing atomic.Bool
	cut        atomic.Bool
}

const lineKey = "freshet.line"

func lineOf(conn *pgx.Conn) *line { return conn.PgConn().CustomData()[lineKey].(*line) }

var errNoCancel = errors.New("neither a commit is canceled, nor what was cut")

// guardCommit keeps cancel requests from a connection until the returned function is
// called, which is not to be done for one that broke.
func guardCommit(conn *pgx.Conn) (answered func()) {
	l := lineOf(conn)
	l.committing.Store(true)
	return func() { l.committing.Store(false) }
}

// sockets are those of a pool, from when they are open until they are closed. The zero
// value has none.
type sockets struct {
	mu  sync.Mutex // guards all
	all map[*socket]struct{}
}

type socket struct {
	net.Conn
	line *line
	of   *sockets
}

func (s *socket) Close() error {
	s.of.mu.Lock()
	delete(s.of.all, s)
	s.of.mu.Unlock()
	return s.Conn.Close()
}

// watch gives a connection that is to be opened its line.
func (s *sockets) watch(config *pgx.ConnConfig) {
	l := new(line)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if l.committing.Load() || l.cut.Load() {
			return nil, errNoCancel
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		opened := &socket{conn, l, s}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.all == nil {
			s.all = make(map[*socket]struct{})
		}
		s.all[opened] = struct{}{}
		return opened, nil
	}
	after := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[lineKey] = l
		if after == nil {
			return nil
		}
		return after(ctx, conn)
	}
}

// cut closes what leads to a history before this epoch's, and what isn't known yet to lead
// to it. Whoever waits there for a server, which may be gone without a word while another
// has its place, learns at once that it won't answer, and the places in the pool are free.
func (s *sockets) cut(epoch freshet.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for open := range s.all {
		if open.line.epoch.Load() < uint32(epoch) {
			open.line.cut.Store(true)
			_ = open.Conn.Close() // gone by itself: as well
		}
	}
}
