package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// ReplicaReason says why a read, or all of them, ran on the primary and not on a
// replica.
type ReplicaReason string

// The reasons. A read has one of them all, a replica (ReplicaStats.Err) one of those
// that are about itself.
const (
	ReplicaDown      ReplicaReason = "down"      // it can't be reached, or broke off
	ReplicaPrimary   ReplicaReason = "primary"   // it is the primary itself
	ReplicaPromoted  ReplicaReason = "promoted"  // it is another primary
	ReplicaHistory   ReplicaReason = "history"   // of another server, timeline or epoch
	ReplicaDetached  ReplicaReason = "detached"  // it doesn't stream
	ReplicaPrivilege ReplicaReason = "privilege" // its role may not see what proves its history
	ReplicaUnproven  ReplicaReason = "unproven"  // the primary's own history isn't known yet

	ReplicaBehind   ReplicaReason = "behind"   // it had not replayed what was asked for in time
	ReplicaBusy     ReplicaReason = "busy"     // it had no connection left in time
	ReplicaConflict ReplicaReason = "conflict" // replay cancelled the query
	ReplicaSlow     ReplicaReason = "slow"     // half of the caller's time was over
	ReplicaFailed   ReplicaReason = "failed"   // Postgres refused a statement for another reason
)

// ReplicaReasons are all of them.
var ReplicaReasons = []ReplicaReason{
	ReplicaDown, ReplicaPrimary, ReplicaPromoted, ReplicaHistory, ReplicaDetached, ReplicaPrivilege, ReplicaUnproven,
	ReplicaBehind, ReplicaBusy, ReplicaConflict, ReplicaSlow, ReplicaFailed,
}

// ReplicaError says why a replica can't serve.
type ReplicaError struct {
	Why  ReplicaReason
	text string
	err  error // nil: text says it all
}

func (e *ReplicaError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("%s: %v", e.text, e.err)
	}
	return e.text
}

func (e *ReplicaError) Unwrap() error { return e.err }

// reasonOf is the reason of an error of a replica's.
func reasonOf(err error) ReplicaReason {
	var e *ReplicaError
	if errors.As(err, &e) {
		return e.Why
	}
	return ReplicaDown
}

// replica is a pool of connections to a standby, and what is known of it.
type replica struct {
	name   string // host:port
	url    string
	pool   *pgxpool.Pool
	pooled atomic.Bool   // the URL leads through a pooler
	wake   chan struct{} // capacity 1: look now
	reads  atomic.Uint64 // that it has served

	mu       sync.Mutex         // guards the fields below
	life     context.Context    // ends when it is found to be of no use; nil: it is of none
	end      context.CancelFunc // of life
	err      error              // why it is of no use
	position freshet.Revision   // the highest that it is known to have replayed
	lag      time.Duration      // when it was last looked at
	pause    time.Time          // until then nobody waits for it: the last one did so in vain
}

// openReplica prepares a pool; it connects to nobody.
func openReplica(ctx context.Context, url string, conns int32) (*replica, error) {
	r := &replica{
		url: url, wake: make(chan struct{}, 1),
		err: &ReplicaError{Why: ReplicaUnproven, text: "it has not been looked at yet"},
	}
	config, err := r.config()
	if err != nil {
		return nil, err
	}
	r.name = net.JoinHostPort(config.ConnConfig.Host, strconv.Itoa(int(config.ConnConfig.Port)))
	if conns > 0 {
		config.MaxConns = conns
	}
	config.PingTimeout = replicaTimeout
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		now, err := r.config()
		if err != nil {
			return err
		}
		*config = *now.ConnConfig
		if r.pooled.Load() {
			config.DefaultQueryExecMode = pooledExecMode
		}
		return nil
	}
	config.AfterConnect = r.afterConnect
	config.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) { return !tagOf(conn).prepares, nil }
	if r.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open replica's pool: %w", err)
	}
	return r, nil
}

// config is for each connection: a password in a file may have been replaced (F59).
func (r *replica) config() (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(r.url)
	if err != nil {
		return nil, fmt.Errorf("replica URL: %w", err) // pgx leaves the password out
	}
	configure(config.ConnConfig)
	return config, nil
}

// afterConnect looks whether somebody answers in the server's place, as DB's does.
func (r *replica) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, "select pg_backend_pid()").ReadAll()
	if err != nil {
		return err
	}
	t := tag{opened: time.Now()}
	t.pooled = string(results[0].Rows[0][0]) != strconv.FormatUint(uint64(conn.PgConn().PID()), 10)
	t.prepares = t.pooled && conn.Config().DefaultQueryExecMode != pooledExecMode
	if t.pooled {
		r.pooled.Store(true)
	}
	setTag(conn, t)
	return nil
}

// found notes what a look has found out: nil, or why the replica is of no use. It
// returns whether that is news. What runs on a replica that has become of no use is cut
// off, so that nobody waits for one that has gone silent.
func (r *replica) found(s standby, err error) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = (err == nil) != (r.life != nil) || err != nil && reasonOf(err) != reasonOf(r.err)
	r.err = err
	switch {
	case err != nil && r.life != nil:
		r.end()
		r.life, r.end = nil, nil
	case err == nil && r.life == nil:
		r.life, r.end = context.WithCancel(context.Background())
	}
	if err == nil {
		r.position = r.position.Max(s.replayed())
	}
	r.lag = s.lag
	return news
}

// served notes what a read has found out.
func (r *replica) served(s standby) {
	r.reads.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.position = r.position.Max(s.replayed())
}

// putOff has nobody wait for the replica for a moment.
func (r *replica) putOff(pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = time.Now().Add(pause)
}

// state is what is known: life is nil for one that is of no use, because of err.
func (r *replica) state() (life context.Context, position freshet.Revision, pause time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.life, r.position, r.pause, r.err
}

// suspect has the replica looked at now.
func (r *replica) suspect() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// replicaRead is a read that a replica may serve.
type replicaRead struct {
	call    *Call
	session *Session
	of      lineage          // the primary's
	need    freshet.Revision // to have been replayed
	wait    time.Duration    // for a connection and for that, together
	fn      func(context.Context, pgx.Tx) error
}

// begin opens the transaction of a read on conn, once the replica has replayed what it
// needs: it asks again until then, or until deadline. What it returns was so before the
// transaction's snapshot.
//
// All of it is one message: behind a pooler, it and the transaction are one server's.
func (r *replica) begin(ctx context.Context, conn *pgxpool.Conn, read *replicaRead, deadline time.Time) (before standby, _ error) {
	ask := standbySQL + "; " + beginReadSQL + read.session.sql()
	sql := ask
	for pause := time.Millisecond; ; pause *= 2 {
		results, err := exec(ctx, conn, sql)
		if err == nil {
			before, err = parseStandby(results)
		}
		if err == nil {
			err = before.shows(read.of)
		}
		if err != nil || before.position >= read.need.Position {
			return before, err
		}
		if time.Until(deadline) < pause {
			return before, &ReplicaError{Why: ReplicaBehind, text: "it has not replayed what was asked for"}
		}
		if !sleep(ctx, pause) {
			return before, ctx.Err()
		}
		sql = "rollback; " + ask
	}
}

// serve runs a read, and proves after it that all the while the replica was of the
// history: until then nothing of it is to be believed. The error is the function's own,
// when why is empty; otherwise the primary has to be asked. It is cut off when life ends.
func (r *replica) serve(ctx, life context.Context, read *replicaRead) (why ReplicaReason, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(life, cancel)
	defer stop()
	if until, ok := ctx.Deadline(); ok { // the other half is for the primary
		var over context.CancelFunc
		ctx, over = context.WithTimeout(ctx, time.Until(until)/2)
		defer over()
	}
	deadline := time.Now().Add(read.wait)
	bounded, done := context.WithDeadline(ctx, deadline)
	conn, err := r.pool.Acquire(bounded)
	done()
	if err != nil {
		if bounded.Err() == nil {
			r.suspect()
			return ReplicaDown, oneline.Error(err)
		}
		return ReplicaBusy, oneline.Error(err)
	}
	defer conn.Release() // which closes the connection if the function panics in its transaction
	before, err := r.begin(ctx, conn, read, deadline)
	if err != nil {
		return r.failed(ctx, life, conn, err), err
	}
	if read.call.Audit {
		err = audited(ctx, conn, read.call, read.fn)
	} else {
		err = runReader(ctx, &reader{conn: conn, inTx: true}, read.fn)
	}
	// A statement may have failed without the function saying so.
	if ctx.Err() != nil || isPostgres(err) || conn.Conn().PgConn().TxStatus() != 'T' {
		return r.failed(ctx, life, conn, err), err
	}
	results, broke := exec(ctx, conn, "rollback; "+standbySQL)
	if broke != nil {
		return r.failed(ctx, life, conn, broke), broke
	}
	after, wrong := parseStandby(results)
	if wrong = cmp.Or(wrong, after.shows(read.of)); wrong != nil {
		r.suspect()
		return reasonOf(wrong), wrong
	}
	r.served(after)
	read.call.onReplica(before.replayed())
	return "", err
}

// failed leaves what is left of the transaction, and gives an error its reason.
func (r *replica) failed(ctx, life context.Context, conn *pgxpool.Conn, err error) ReplicaReason {
	if life.Err() != nil {
		return ReplicaDown // nothing more is asked of it: the connection's release closes it
	}
	if ctx.Err() != nil {
		return ReplicaSlow // the same: it may be the connection that has gone silent
	}
	_ = endRead(ctx, conn) // a connection that has not ended it is closed as well
	var own *ReplicaError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &own):
		if own.Why != ReplicaBehind {
			r.suspect()
		}
		return own.Why
	case errors.As(err, &pg) && (pg.Code == codeSerialization || pg.Code == codeDeadlock):
		// There are no other transactions to lose to: it is replay that cancels queries
		// (PostgreSQL manual, 26.4.2).
		return ReplicaConflict
	case isServerError(err), err == nil && !conn.Conn().IsClosed():
		return ReplicaFailed
	}
	r.suspect()
	return ReplicaDown
}

// isPostgres reports whether an error is what Postgres said, or what became of a
// connection to it, and not the function's own or one about what it has found.
func isPostgres(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) || isConnectionError(err) || errors.Is(err, ErrUnavailable)
}
