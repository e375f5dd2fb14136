package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
)

// errNoTrackCounts: without statistics every read would pass the audit.
var errNoTrackCounts = errors.New("audit reads: track_counts is off")

// tableUseSQL counts what this transaction did to tables so far, together with
// earlier statements of the session that have not been reported yet: hence it
// is asked before and after. It sees through views and functions. A plan node
// that never ran doesn't count. A partition counts as its root.
//
// It stands here because sqlc doesn't know the statistics views. Workers of a
// parallel plan keep counts of their own, so there are to be none.
const tableUseSQL = `set local max_parallel_workers_per_gather = 0;
select current_setting('track_counts');
select n.nspname || '.' || c.relname,
    sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del),
    sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0))
from pg_stat_xact_user_tables as s
join pg_class as c on c.oid = coalesce(pg_partition_root(s.relid), s.relid)
join pg_namespace as n on n.oid = c.relnamespace
group by 1`

// uses are how often a table has been used.
type uses struct{ written, all int64 }

// tableUse returns how often each table has been used, by `schema.table`.
func tableUse(ctx context.Context, conn *pgxpool.Conn) (map[string]uses, error) {
	results, err := exec(ctx, conn, tableUseSQL)
	if err != nil {
		return nil, err
	}
	if string(results[1].Rows[0][0]) != "on" {
		return nil, errNoTrackCounts
	}
	use := make(map[string]uses)
	for _, row := range results[2].Rows {
		written, err := strconv.ParseInt(string(row[1]), 10, 64)
		if err != nil {
			return nil, err
		}
		scanned, err := strconv.ParseInt(string(row[2]), 10, 64)
		if err != nil {
			return nil, err
		}
		use[string(row[0])] = uses{written, written + scanned}
	}
	return use, nil
}

// auditWrites records which tables a transaction has written, before it is
// committed. What earlier ones of the session wrote may be among them: they are
// the pool's too.
func auditWrites(ctx context.Context, conn *pgxpool.Conn, call *Call) error {
	after, err := tableUse(ctx, conn)
	if errors.Is(err, errNoTrackCounts) {
		call.blinded(err)
		return nil
	}
	for table, uses := range after {
		if uses.written > 0 {
			call.audited(&call.written, table)
		}
	}
	return err
}
