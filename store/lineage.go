package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-dev/freshet"
)

// lineage is which history an epoch names, in words that a standby has for itself.
// The row of the epoch says it: that is unlogged, so only the primary has it. It
// never changes for an epoch.
type lineage struct {
	epoch    freshet.Epoch
	system   string // identifier
	timeline string
	database string // oid
}

// standbySQL asks a standby what it has replayed, and of which history. It is for the
// simple protocol: a transaction of its own, which may have others before and after it
// in one message.
//
// The epoch is the last one given, which is logged (freshet.epoch). The timeline is
// that of the WAL receiver while it streams: what is replayed is of that one or of
// one that leads to it, see docs/decisions/0021. (The control file's is older, by as
// much as a restart point.) It is shown to pg_read_all_stats, as which this is asked: a
// pool's role that takes those of its callers may inherit from none.
const standbySQL = `begin isolation level read committed read only; set local role pg_read_all_stats;
select pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0',
  (select system_identifier from pg_control_system()),
  (select oid from pg_database where datname = current_database()),
  (select last from freshet.epoch),
  (select status from pg_stat_wal_receiver),
  (select received_tli from pg_stat_wal_receiver where status = 'streaming'),
  case when pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()
    then extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) end;
commit`

// standby is what one says of itself.
type standby struct {
	lineage           // what it shows; its timeline is empty while it doesn't stream
	position   uint64 // replayed
	recovering bool
	receiver   string        // its WAL receiver's status; empty: there is none
	lag        time.Duration // since what was replayed last was committed, if more has come since
}

// askStandby asks a standby. Its error is a *ReplicaError, after which the connection is
// to be closed.
func askStandby(ctx context.Context, conn *pgx.Conn) (s standby, err error) {
	results, err := conn.PgConn().Exec(ctx, standbySQL).ReadAll()
	var pg *pgconn.PgError
	switch {
	case isDenied(err):
		return s, &ReplicaError{Why: ReplicaPrivilege, text: "its role may not see which timeline it follows " +
			"(grant pg_read_all_stats to the role of the replica's URL, on the primary)", err: err}
	case errors.As(err, &pg) && (pg.Code == codeUndefinedTable || pg.Code == codeInvalidSchema):
		return s, &ReplicaError{Why: ReplicaHistory, text: "it has nothing of Freshet's: it has not replayed so far, or is of another database"}
	case err != nil:
		return s, &ReplicaError{Why: ReplicaDown, text: "it does not answer", err: err}
	}
	if s, err = parseStandby(results); err != nil {
		return s, &ReplicaError{Why: ReplicaDown, text: "its answer makes no sense", err: err}
	}
	return s, nil
}

// parseStandby reads the first of the results that has a row.
func parseStandby(results []*pgconn.Result) (s standby, _ error) {
	i := slices.IndexFunc(results, func(r *pgconn.Result) bool { return len(r.Rows) > 0 })
	if i < 0 || len(results[i].Rows[0]) != 8 {
		return s, errors.New("the replica does not say what it is")
	}
	var text [8]string
	for i, value := range results[i].Rows[0] {
		text[i] = string(value)
	}
	if s.recovering = text[0] == "t"; !s.recovering {
		return s, nil // it has no other answers then
	}
	var err error
	if s.position, err = strconv.ParseUint(text[1], 10, 64); err != nil {
		return s, fmt.Errorf("replayed position: %w", err)
	}
	epoch, err := strconv.ParseUint(cmp.Or(text[4], "0"), 10, 32) // none yet
	if err != nil {
		return s, fmt.Errorf("epoch: %w", err)
	}
	lag, _ := strconv.ParseFloat(text[7], 64) // none, or nothing replayed since its start: not known
	s.lineage = lineage{epoch: freshet.Epoch(epoch), system: text[2], timeline: text[6], database: text[3]}
	s.receiver, s.lag = text[5], time.Duration(lag*float64(time.Second))
	return s, nil
}

// replayed is its position, of the epoch that it shows.
func (s standby) replayed() freshet.Revision {
	return freshet.Revision{Epoch: s.epoch, Position: s.position}
}

// shows returns nil when all that the replica had replayed when it answered is of the
// history: then, and only then, its position is one of it.
func (s standby) shows(l lineage) error {
	switch {
	case !s.recovering:
		return &ReplicaError{Why: ReplicaPromoted, text: "it is no standby (any more): what it has is another history"}
	case s.system != l.system || s.database != l.database:
		return &ReplicaError{Why: ReplicaHistory, text: fmt.Sprintf("it is of another database: system identifier %s, database %s; the primary's are %s, %s",
			s.system, s.database, l.system, l.database)}
	case s.timeline == "":
		return &ReplicaError{Why: ReplicaDetached, text: fmt.Sprintf("it does not stream from the primary (its WAL receiver: %s), so nothing says which timeline it follows", cmp.Or(s.receiver, "none"))}
	case s.timeline != l.timeline:
		return &ReplicaError{Why: ReplicaHistory, text: fmt.Sprintf("it follows timeline %s, the primary's is %s", s.timeline, l.timeline)}
	case s.epoch != l.epoch:
		return &ReplicaError{Why: ReplicaHistory, text: fmt.Sprintf("its epoch is %d, the primary's %d: it has not replayed so far, or follows another primary", s.epoch, l.epoch)}
	}
	return nil
}
