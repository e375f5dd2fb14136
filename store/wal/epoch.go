package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/store/setup"
)

// incarnation names one uninterrupted run of one database.
//
// It is kept in an UNLOGGED table, which crash recovery, a promotion and a
// crash-consistent restore empty: just when commits that clients saw under
// synchronous_commit=off may be gone, and their positions be reused. (The
// system identifier, the timeline and the postmaster's start time all stay the
// same over a crash recovery.) A clean shutdown and a cold copy of the data
// directory keep the row, but not the postmaster's start time; a dump, or a
// database made from another as its template, keeps the row, but not the
// database's oid.
type incarnation struct {
	systemIdentifier string
	timeline         int64
	postmasterStart  time.Time
	database         uint32 // oid
}

func (i incarnation) is(o incarnation) bool {
	return i.systemIdentifier == o.systemIdentifier && i.timeline == o.timeline && i.postmasterStart.Equal(o.postmasterStart) &&
		i.database == o.database
}

// number names the incarnation among nodes, which don't need to know more.
func (i incarnation) number() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %d %d %d", i.systemIdentifier, i.timeline, i.postmasterStart.UnixMicro(), i.database)
	return h.Sum64()
}

// history is an epoch, and the incarnation that it names. The zero value is
// none.
type history struct {
	epoch freshet.Epoch
	incarnation
}

// errOtherHistory says that a connection leads to another history than the session's.
var errOtherHistory = errors.New("the connection leads to another server, or to one that is in another epoch, than the node follows")

// sameHistory is SQL for whether a connection has reached the primary and the database
// whose history it is that arguments names from parameter $n on.
//
// The epoch's number alone doesn't say. A dump and a copy of the files have the row that
// names it, and of two databases of which one was made from the other each can begin
// the next one by itself, in the same second. So the row has to be of this history, and
// written since this server's start and for this database.
func sameHistory(n int) string {
	return fmt.Sprintf(`(not pg_is_in_recovery() and exists (select from freshet.incarnation
  where epoch = $%d and system_identifier = $%d and timeline = $%d and postmaster_start = $%d and database = $%d
    and postmaster_start = pg_postmaster_start_time() and database = (select oid from pg_database where datname = current_database())))`,
		n, n+1, n+2, n+3, n+4)
}

func (h history) arguments() []any {
	return []any{h.epoch, h.systemIdentifier, h.timeline, h.postmasterStart, h.database}
}

// resolveEpoch returns the database's epoch, and writes the next one if the
// stored incarnation is missing or another: greatest(unix seconds, last + 1).
// The last epoch is in a logged row besides, so that it is never given twice.
//
// Both rows can be of an older copy. So a node that has served a history itself
// begins above its epoch, whatever the database says, unless this is that very
// history or a higher one: two epochs that begin within a second of each other
// could come to the same number.
//
// A server that was put back together with its memory, as a virtual machine is to a
// snapshot, has everything that names its incarnation, and WAL below reached, up to which
// the node has told of it: what comes now has positions that others had (F8).
func resolveEpoch(ctx context.Context, conn *pgx.Conn, now incarnation, served history, reached pglogrepl.LSN) (epoch freshet.Epoch, fresh bool, err error) {
	// Also where the default is a read-only transaction, because the disk is
	// nearly full, say: without an epoch nobody is served.
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '`+epochLockTimeout+`'`); err != nil {
			return err
		}
		// One node at a time. Not an advisory lock: those are everybody's, and
		// whoever may connect could keep every node from starting.
		if _, err := tx.Exec(ctx, `lock table freshet.epoch in share row exclusive mode`); err != nil {
			return err
		}
		var stored history
		var end pglogrepl.LSN
		err := tx.QueryRow(ctx, `select epoch, system_identifier, timeline, postmaster_start, database, pg_current_wal_insert_lsn() from freshet.incarnation`).
			Scan(&stored.epoch, &stored.systemIdentifier, &stored.timeline, &stored.postmasterStart, &stored.database, &end)
		switch {
		case err == nil && stored.is(now) && (stored.epoch > served.epoch || stored.epoch == served.epoch && served.is(now) && end >= reached):
			epoch = stored.epoch
			return nil
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		fresh = true
		err = tx.QueryRow(ctx, `
insert into freshet.epoch (last) values (greatest(extract(epoch from clock_timestamp())::bigint, $1::bigint + 1))
on conflict ("only") do update set last = greatest(excluded.last, freshet.epoch.last + 1)
returning last`, served.epoch).Scan(&epoch)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start, database) values ($1, $2, $3, $4, $5)
on conflict ("only") do update set epoch = excluded.epoch, system_identifier = excluded.system_identifier,
  timeline = excluded.timeline, postmaster_start = excluded.postmaster_start, database = excluded.database, secret = null`,
			epoch, now.systemIdentifier, now.timeline, now.postmasterStart, now.database)
		return err
	})
	if setup.SQLState(err) == setup.CodeLockNotAvailable {
		err = epochLocked(ctx, conn, err)
	}
	if err != nil {
		return 0, false, fmt.Errorf("resolve epoch: %w", err)
	}
	return epoch, fresh, nil
}

// epochLockTimeout is after how long it is said who keeps the epoch from being resolved;
// then it is tried again. Another node is done with it in a moment.
const epochLockTimeout = "3s"

// epochLocked adds to err, that the epoch's rows are locked, by whom.
func epochLocked(ctx context.Context, conn *pgx.Conn, err error) error {
	var holders []string
	if conn.QueryRow(ctx, `
select array(select distinct coalesce(`+activityInWords+`, 'a prepared transaction')
  from pg_locks l left join pg_stat_activity a using (pid)
  where l.relation in ('freshet.epoch'::regclass, 'freshet.incarnation'::regclass) and l.database = (select oid from pg_database where datname = current_database())
    and l.granted and l.mode <> 'AccessShareLock' order by 1)`).Scan(&holders) != nil || len(holders) == 0 {
		return err // it has gone, or the connection has
	}
	return fmt.Errorf("waits for whoever has locked freshet.epoch or freshet.incarnation: %s: %w", strings.Join(holders, "; "), err)
}
