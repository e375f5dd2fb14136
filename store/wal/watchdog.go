package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet/store/setup"
)

// syncInterval is how often the walsender's sync_state is read: as long as it
// could be a synchronous standby, commits of the application hang.
const syncInterval = 250 * time.Millisecond

// Bounds of the watchdog's own statements. A lock that somebody holds on our
// table must not stop it, nor what it does hold up anybody.
const (
	watchLockTimeout      = time.Second
	watchStatementTimeout = 5 * time.Second
)

// watch takes the sources in quarantine through its steps, and looks, more
// closely than the gate does for every batch, whether there should be others. It
// also repeats the set-up checks, and that our walsender is no synchronous
// standby.
func (s *session) watch(ctx context.Context) error {
	f := s.f
	standby := time.NewTicker(syncInterval)
	defer standby.Stop()
	look := time.NewTimer(0) // what start has left undone
	defer look.Stop()
	var (
		pause  time.Duration // after a round that waits for somebody else; 0: none does
		looked = time.Now()  // the last round that was no failure
		retold = time.Now()
	)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-standby.C:
			if err := s.checkSyncState(ctx); err != nil {
				return err
			}
			if err := s.checkAlive(ctx); err != nil {
				return err
			}
			continue
		case <-look.C:
		case <-s.watched:
			pause = 0
		}
		soon, err := s.examine(ctx)
		switch {
		case err == nil:
			looked = time.Now()
		case !refused(err):
			return err
		}
		soon = soon || err != nil // DDL that runs beside a look can fail it
		if err != nil && time.Since(looked) > 2*f.cfg.WatchInterval {
			// Nothing is known of what only this look would show.
			s.log.LogAttrs(ctx, slog.LevelWarn, "the catalog can't be looked at; every source is in quarantine until it can", slog.Any("error", err))
			f.quarantine.distrust("the catalog can't be looked at: "+err.Error(), false)
			looked = time.Now()
		}
		f.stats.looks.Add(1)
		if time.Since(retold) >= f.cfg.WatchInterval {
			retold = time.Now()
			if f.quarantine.again() {
				// Its commit moves the WAL, so that the telling is news to whoever
				// has read since the last one.
				f.Nudge()
			}
		}
		signal(s.work) // something may have begun
		next := f.cfg.WatchInterval
		if soon {
			pause = min(max(2*pause, pauseMin), next)
			next = pause
		} else {
			pause = 0
		}
		look.Reset(next)
	}
}

// pauseMin is how soon the watchdog looks again after what a quarantine waits
// for; then twice as long, each time.
const pauseMin = 5 * time.Millisecond

// refused reports whether the server answered with an error that leaves the
// connection as it was: a timeout, a lock, a right that is missing, a database
// that is read-only.
func refused(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Severity == "ERROR"
}

// examine looks at the catalog as a whole, and takes each source in quarantine
// as many steps towards its end as can be taken. soon: one waits for what should
// come by itself before long.
func (s *session) examine(ctx context.Context) (soon bool, err error) {
	q := s.f.quarantine
	if !s.announced {
		if err := s.announce(ctx); err != nil && !refused(err) {
			return false, err
		}
	}
	if err := s.meetVersions(ctx, s.watchConn); err != nil {
		return false, err
	}
	suspects := q.examined()
	now, problems, err := s.lookClosely(ctx)
	if err != nil {
		return false, err
	}
	bySource := make(map[string][]setup.Problem) // "": of all of them
	for _, p := range setup.Fatal(problems) {
		bySource[p.Source] = append(bySource[p.Source], p)
	}
	for i, u := range suspects {
		if now.sights[i].fingerprint != u.seen.fingerprint {
			// The gate has not seen this yet, or sees more by now.
			s.relook.Store(true)
			soon = true
			continue
		}
		if found := slices.Concat(bySource[""], bySource[u.source.String()]); len(found) > 0 {
			why := &setup.Error{Problems: found}
			if q.wrong(i, u, why.Error()) {
				s.log.LogAttrs(ctx, slog.LevelError, "a source is in quarantine: its changes can't all be told",
					slog.String("source", u.source.String()), slog.Any("waits_for", why))
			}
			continue
		}
		if !u.held {
			continue
		}
		waits, err := s.proceed(ctx, i, u)
		if err != nil {
			return false, err
		}
		soon = soon || waits
	}
	return soon, nil
}

// lookClosely reads, in one snapshot, the fingerprints of all sources and what is
// wrong with them. What is wrong with the server fails readiness: no topic is
// told wrongly for it.
func (s *session) lookClosely(ctx context.Context) (now catalog, problems []setup.Problem, err error) {
	f := s.f
	err = inTx(ctx, s.watchConn, oneMoment, func(tx pgx.Tx) error {
		if err := boundStatements(ctx, tx); err != nil {
			return err
		}
		server, _, err := setup.CheckServer(ctx, tx)
		if err != nil {
			return err
		}
		s.setUnsound(ctx, server)
		if problems, err = setup.CheckSources(ctx, tx, f.cfg.Program, f.cfg.Publication); err != nil {
			return err
		}
		if now, err = readCatalog(ctx, tx, f.cfg.Program, f.cfg.Publication); err == nil {
			s.learn(now)
		}
		return err
	})
	return now, problems, err
}

// setUnsound records what is wrong with the server.
func (s *session) setUnsound(ctx context.Context, problems []setup.Problem) {
	var unsound error
	if fatal := setup.Fatal(problems); len(fatal) > 0 {
		unsound = &setup.Error{Problems: fatal}
	}
	f := s.f
	f.mu.Lock()
	before := f.unsound
	f.unsound = unsound
	f.mu.Unlock()
	if (unsound == nil) != (before == nil) {
		f.cfg.OnChange()
	}
	switch {
	case unsound != nil && (before == nil || before.Error() != unsound.Error()):
		s.log.LogAttrs(ctx, slog.LevelError, "the database isn't set up for capture any more", slog.Any("error", unsound))
	case unsound == nil && before != nil:
		s.log.LogAttrs(ctx, slog.LevelInfo, "the database is set up for capture again")
	}
}

// proceed takes one source whose catalog is right, as of a snapshot that is
// already taken, from step to step.
func (s *session) proceed(ctx context.Context, i int, u suspect) (soon bool, err error) {
	q, name := s.f.quarantine, u.source.String()
	if u.step == wrong {
		if !u.force {
			stored, err := s.storedFingerprint(ctx, name)
			if err != nil && !refused(err) {
				return false, err
			}
			if err == nil && stored == u.seen.fingerprint {
				return true, s.await(ctx, i, u) // somebody has emitted the notice already
			}
		}
		if err := s.watchConn.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&u.after); err != nil {
			return false, err
		}
		q.running(i, u, u.after)
		what := "a source is new here, or its shape, its publication or its policies changed"
		if u.truncated {
			what = "a source was emptied by TRUNCATE"
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, what+": it is in quarantine until capture is proven to be right, and all its topics are told",
			slog.String("source", name))
		u.step = running
	}
	if u.step == telling {
		s.f.Nudge()
		return true, nil
	}
	var xmin uint64
	if err := s.watchConn.QueryRow(ctx, `select pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&xmin); err != nil {
		return false, err
	}
	if xmin <= u.after {
		return true, s.waitsForTransactions(ctx, i, u)
	}
	if err := s.emit(ctx, name, u.seen.fingerprint); err != nil {
		if !refused(err) {
			return false, err
		}
		s.waitsLong(ctx, i, u, "the notice of all its topics to be written, which failed: "+err.Error())
		return true, nil
	}
	return true, s.await(ctx, i, u)
}

// waitsForTransactions says which a source waits for, once it has for a while.
func (s *session) waitsForTransactions(ctx context.Context, i int, u suspect) error {
	if time.Since(u.since) < waitIsLong {
		return nil
	}
	var open []string
	err := s.watchConn.QueryRow(ctx, `
select array(select what from `+openTransactions+` o where age(xid) >= age(($1::bigint % 4294967296)::text::xid) order by 1)`, u.after).Scan(&open)
	if err == nil && len(open) > 0 { // else they have ended since
		s.waitsLong(ctx, i, u, waitsForTransactions+": "+strings.Join(open, "; "))
	}
	return err
}

// waitIsLong is after how long what a source waits for is said.
const waitIsLong = time.Second

// waitsLong says what a source waits for, once it has for a while.
func (s *session) waitsLong(ctx context.Context, i int, u suspect, what string) {
	if time.Since(u.since) >= waitIsLong && s.f.quarantine.waits(i, u, what) {
		s.log.LogAttrs(ctx, slog.LevelWarn, "a source is still in quarantine",
			slog.String("source", u.source.String()), slog.String("waits_for", what))
	}
}

// emit stores a source's fingerprint and emits "all topics of the table" in one
// transaction: it has a position above every stamp given, is replayed after a
// restart, and reaches every node.
func (s *session) emit(ctx context.Context, name, fingerprint string) error {
	return inTx(ctx, s.watchConn, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if err := boundStatements(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
insert into freshet.fingerprint (source, value) values ($1, $2)
on conflict (source) do update set value = excluded.value`, name, fingerprint)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `select pg_logical_emit_message(true, $1, $2)`, messageSource, name)
		return err
	})
}

// await has the source wait for all that is written by now.
func (s *session) await(ctx context.Context, i int, u suspect) error {
	var here sample
	if err := s.watchConn.QueryRow(ctx, `select pg_current_wal_insert_lsn()`).Scan(&here.lsn); err != nil {
		return err
	}
	s.f.quarantine.telling(i, u, here.lsn)
	s.f.Nudge()
	return nil
}

func (s *session) storedFingerprint(ctx context.Context, name string) (value string, err error) {
	err = inTx(ctx, s.watchConn, oneMoment, func(tx pgx.Tx) error {
		if err := boundStatements(ctx, tx); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `select value from freshet.fingerprint where source = $1`, name).Scan(&value)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return value, err
}

// oneMoment is a transaction that looks, all of it at one snapshot.
var oneMoment = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// inTx is pgx.BeginTxFunc, but its error is what went wrong: of a connection that
// broke, pgx says in the end only that it can't be rolled back.
func inTx(ctx context.Context, conn *pgx.Conn, opts pgx.TxOptions, do func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback(ctx) // what went wrong first is told
		return err
	}
	return tx.Commit(ctx)
}

func boundStatements(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)`,
		fmt.Sprint(watchLockTimeout.Milliseconds()), fmt.Sprint(watchStatementTimeout.Milliseconds()))
	return err
}
