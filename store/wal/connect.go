package wal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/internal/mono"
	"github.com/freshet-dev/freshet/internal/oneline"
	"github.com/freshet-dev/freshet/store/setup"
)

// A paused node's slot, and what it keeps of the WAL, is gone after
// wal_sender_timeout.
const walSenderTimeout = "4s"

// How long a connection may be silent while something is waited for. Packets
// can vanish without a word: an address that moved, a firewall that forgot a
// connection, a proxy that hangs.
const (
	// answerSilence is for a statement; some of ours commit, and a disk can
	// take its time.
	answerSilence = 10 * time.Second
	// streamSilence is for the replication stream, where the walsender is
	// asked for a keepalive every second. One that is busy with something huge
	// answers nobody meanwhile; it is left alone (see checkAlive).
	streamSilence = 5 * time.Second
)

// serverLimits end on the server what we have given up: a connection whose
// client is gone, a statement, a transaction. The latter are a little less than
// our own patience.
var serverLimits = map[string]string{
	"tcp_keepalives_idle":                 "5",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
	"statement_timeout":                   "9s",
	"idle_in_transaction_session_timeout": "9s",
}

// errSilent says that a connection that is open has brought nothing for too
// long.
var errSilent = errors.New("the database doesn't answer")

// dialer opens the sockets of one session, each of which has a limit to its
// silence, and closes all of them: also those on which pgx sends a cancel
// request, or a last farewell, in a goroutine of its own.
type dialer struct {
	life context.Context // nothing is dialled after its end
	end  context.CancelFunc

	mu      sync.Mutex // guards what follows
	sockets map[*socket]struct{}
	broke   error // why the first socket that did was of no use any more
}

func newDialer() *dialer {
	d := &dialer{sockets: map[*socket]struct{}{}}
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// through makes connections of config use d, with a limit to their silence.
func (d *dialer) through(config *pgconn.Config, silence time.Duration) {
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(d.life, cancel)
		defer stop()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		s := &socket{Conn: conn, from: d}
		s.allow(silence)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.life.Err() != nil {
			_ = conn.Close()
			return nil, net.ErrClosed
		}
		d.sockets[s] = struct{}{}
		return s, nil
	}
}

// failed notes why a socket broke.
func (d *dialer) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broke == nil && !errors.Is(err, net.ErrClosed) { // that is our own doing
		d.broke = err
	}
}

// cause returns why a connection is closed, where err says only that it is: pgx
// doesn't tell what ends a connection under BEGIN or COMMIT.
func (d *dialer) cause(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, pgconn.ErrConnClosed) && d.broke != nil {
		return fmt.Errorf("%w: %w", err, d.broke)
	}
	return err
}

// close closes every socket, and prevents others.
func (d *dialer) close() {
	d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.sockets {
		_ = s.Conn.Close()
	}
	clear(d.sockets)
}

// socket is a connection on which each read and each write ends with errSilent
// after a while without a byte. Deadlines that its user sets hold besides. Safe
// for concurrent use, as a net.Conn is.
type socket struct {
	net.Conn
	from    *dialer
	silence atomic.Int64 // time.Duration; 0: without end
	heard   mono.Mark    // when something was last read

	mu          sync.Mutex // guards what follows, and the order in which it reaches Conn
	read, write deadline
}

// deadline is when a read or a write ends: the earlier of the two; zero is
// never.
type deadline struct{ user, ours time.Time }

func (d deadline) earlier() time.Time {
	if d.user.IsZero() || !d.ours.IsZero() && d.ours.Before(d.user) {
		return d.ours
	}
	return d.user
}

// allow sets how long the next reads and writes may be silent; 0: without end.
func (s *socket) allow(silence time.Duration) { s.silence.Store(int64(silence)) }

// silent returns for how long nothing has been read.
func (s *socket) silent() time.Duration { return s.heard.Ago() }

func (s *socket) Read(p []byte) (int, error) {
	silence := s.arm(&s.read, s.Conn.SetReadDeadline)
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.heard.Set(time.Now())
	}
	return n, s.explain(err, &s.read, silence)
}

func (s *socket) Write(p []byte) (int, error) {
	silence := s.arm(&s.write, s.Conn.SetWriteDeadline)
	n, err := s.Conn.Write(p)
	return n, s.explain(err, &s.write, silence)
}

func (s *socket) arm(d *deadline, set func(time.Time) error) time.Duration {
	silence := time.Duration(s.silence.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	d.ours = time.Time{}
	if silence > 0 {
		d.ours = time.Now().Add(silence)
	}
	_ = set(d.earlier()) // fails on a closed socket, as what follows does
	return silence
}

// explain tells our deadline, after which the connection is of no use, from
// one of its user, who may go on.
func (s *socket) explain(err error, d *deadline, silence time.Duration) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if s.passed(d) {
			return err
		}
		err = fmt.Errorf("%w: nothing for %s", errSilent, silence)
	}
	s.from.failed(err)
	return err
}

// passed reports whether the user's deadline is over.
func (s *socket) passed(d *deadline) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !d.user.IsZero() && !d.user.After(time.Now())
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are the user's.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read.user = t
	return s.Conn.SetReadDeadline(s.read.earlier())
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write.user = t
	return s.Conn.SetWriteDeadline(s.write.earlier())
}

func (s *socket) Close() error {
	s.from.mu.Lock()
	delete(s.from.sockets, s)
	s.from.mu.Unlock()
	return s.Conn.Close()
}

// socketOf finds the socket below a connection, which may be one of TLS, or gathered.
func socketOf(conn net.Conn) *socket {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = over.NetConn()
	}
	s, _ := conn.(*socket) // nothing else is dialled
	return s
}

// openConn opens a connection of the session's own, with settings besides.
func (s *session) openConn(ctx context.Context, settings map[string]string) (*pgx.Conn, error) {
	return s.openThrough(ctx, s.dial, settings)
}

func (s *session) openThrough(ctx context.Context, dial *dialer, settings map[string]string) (*pgx.Conn, error) {
	config, err := s.parameters(ctx)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["synchronous_commit"] = "local" // a nudge and the epoch must not wait for a standby
	maps.Copy(config.RuntimeParams, settings)
	dial.through(&config.Config, answerSilence)
	conn, err := pgx.ConnectConfig(ctx, config)
	return conn, oneline.Error(err)
}

// openReplication opens the connection for replication.
func (s *session) openReplication(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := s.parameters(ctx)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["idle_session_timeout"] = "30s" // between two commands of a session's start
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["wal_sender_timeout"] = walSenderTimeout
	l := &linger{max: s.f.cfg.Linger}
	config.BuildFrontend = newFrontend(l)
	s.dial.through(&config.Config, answerSilence)
	l.gather(&config.Config)
	conn, err := pgconn.ConnectConfig(ctx, &config.Config)
	return conn, oneline.Error(err)
}

// parameters are those of all connections of the session.
func (s *session) parameters(ctx context.Context) (*pgx.ConnConfig, error) {
	config, err := s.f.cfg.Connect(ctx)
	if err != nil {
		return nil, err
	}
	setup.ForServer(config)
	maps.Copy(config.RuntimeParams, serverLimits)
	config.RuntimeParams["application_name"] = setup.ApplicationName
	// A connection that has nothing to do for a while isn't a forgotten one, whatever the
	// database or the role say of those; where one of ours may be, its owner says for how long.
	config.RuntimeParams["idle_session_timeout"] = "0"
	// What we ask of the catalog looks dear to the planner and is cheap: compiling it
	// takes seconds where running it takes milliseconds.
	config.RuntimeParams["jit"] = "off"
	return config, nil
}
