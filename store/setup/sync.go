package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CheckSyncStandby looks whether the walsender with this pid is, or could become,
// a synchronous standby: with synchronous_standby_names = '*' its late
// confirmations would hang every commit of the database.
//
// The setting alone decides: what the server says of our walsender a role
// without pg_read_all_stats can't see. sync_state is asked besides, since the
// walsender may have read another setting than this connection.
func CheckSyncStandby(ctx context.Context, conn *pgx.Conn, pid uint32) ([]Problem, error) {
	var names, state string
	err := conn.QueryRow(ctx, `
select current_setting('synchronous_standby_names'),
  coalesce((select sync_state from pg_stat_replication where pid = $1), 'async')`, pid).Scan(&names, &state)
	switch {
	case err != nil:
		return nil, fmt.Errorf("check sync_state: %w", err)
	case candidate(names):
		return []Problem{candidateProblem(names)}, nil
	case state != "async":
		return []Problem{syncStandbyProblem(state)}, nil
	}
	return nil, nil
}

// candidate reports whether synchronous_standby_names could choose a walsender
// of our application_name.
func candidate(names string) bool {
	for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return strings.ContainsRune(" ,()\t\n", r) }) {
		if name = strings.Trim(name, `"`); name == "*" || strings.EqualFold(name, ApplicationName) {
			return true
		}
	}
	return false
}

func candidateProblem(names string) Problem {
	return syncStandbyProblem("a candidate of synchronous_standby_names = '" + names + "'")
}

func syncStandbyProblem(state string) Problem {
	return Problem{
		Text: "our walsender would be a synchronous standby (" + state + "), and every commit of the database would wait for it; name the real standbys instead of *",
		SQL:  []string{"alter system set synchronous_standby_names = 'ANY 1 (standby1, standby2)';", "select pg_reload_conf();"},
	}
}
