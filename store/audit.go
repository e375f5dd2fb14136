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
    sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0) + s.n_tup_ins + s.n_tup_upd + s.n_tup_del)
from pg_stat_xact_user_tables as s
join pg_class as c on c.oid = coalesce(pg_partition_root(s.relid), s.relid)
join pg_namespace as n on n.oid = c.relnamespace
group by 1`

// tableUse returns how often each table has been used, by `schema.table`.
func tableUse(ctx context.Context, conn *pgxpool.Conn) (map[string]int64, error) {
	results, err := exec(ctx, conn, tableUseSQL)
	if err != nil {
		return nil, err
	}
	if string(results[1].Rows[0][0]) != "on" {
		return nil, errNoTrackCounts
	}
	uses := make(map[string]int64)
	for _, row := range results[2].Rows {
		n, err := strconv.ParseInt(string(row[1]), 10, 64)
		if err != nil {
			return nil, err
		}
		uses[string(row[0])] = n
	}
	return uses, nil
}
