package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Check compares a database with what capture of program needs, and returns
// every problem it finds; none means that capture can run. It changes nothing.
// The error is a failure to look, not a finding.
func Check(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) (problems []Problem, err error) {
	// One snapshot: a change between two look-ups must not make up a problem.
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, conn, opts, func(tx pgx.Tx) error {
		var supported bool
		if problems, supported, err = CheckServer(ctx, tx); err != nil || !supported {
			return err
		}
		found, err := CheckSources(ctx, tx, program, publication)
		problems = append(problems, found...)
		return err
	})
	return problems, err
}

// superuser is who may do what the owner of a database may not.
const superuser = "a superuser (at a managed provider: in its console)"

// alterSystem is a problem that a setting of the server mends.
func alterSystem(text string, super bool, sql ...string) Problem {
	p := Problem{Text: text, SQL: sql}
	if !super {
		p.By = superuser
	}
	return p
}

// encodings are those of which every text can be converted to UTF-8. In others the
// walsender fails at one that can't, in each session anew, and
// pg_logical_emit_message is everybody's to write one (F74).
var encodings = []string{
	"UTF8", "LATIN1", "LATIN2", "LATIN4", "LATIN5", "LATIN6", "LATIN7", "LATIN8", "LATIN9", "LATIN10",
	"ISO_8859_5", "KOI8R", "KOI8U", "WIN866", "WIN1256",
}

// CheckServer is the part of Check that is about the server, the database and the
// role, in tx's snapshot. supported is false where the catalog can't be asked for
// the rest: an old server, a standby.
func CheckServer(ctx context.Context, tx pgx.Tx) (problems []Problem, supported bool, err error) {
	var (
		version            int
		standby, super     bool
		level, keep, names string
		encoding           string
	)
	err = tx.QueryRow(ctx, `
select current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
  current_setting('max_slot_wal_keep_size'), current_setting('synchronous_standby_names'),
  (select rolsuper from pg_roles where rolname = current_user), pg_encoding_to_char(d.encoding)
from pg_database d where d.datname = current_database()`).
		Scan(&version, &standby, &level, &keep, &names, &super, &encoding)
	if err != nil {
		return nil, false, fmt.Errorf("check set-up: %w", err)
	}
	add := func(p Problem) { problems = append(problems, p) }
	if version < 150000 {
		add(Problem{Text: fmt.Sprintf("PostgreSQL %d is too old: publications have column lists from 15 on", version/10000)})
	}
	if standby {
		add(Problem{Text: "the database is a standby: connect to the primary"})
	}
	if len(problems) > 0 {
		return problems, false, nil
	}
	if level != "logical" {
		add(alterSystem("wal_level is "+level+", not logical; the change needs a restart of Postgres", super, "alter system set wal_level = 'logical';"))
	}
	if !slices.Contains(encodings, encoding) {
		add(Problem{Text: "the database's encoding is " + encoding + ", in which there is text that can't be converted to UTF-8: topics and answers would be bytes of no known meaning, " +
			"and one such text that anybody writes would stop capture for good; dump it, and restore it into a database that is created with encoding 'UTF8' (or one of " +
			strings.Join(encodings[1:], ", ") + ")"})
	}
	found, err := checkPrivileges(ctx, tx)
	if err != nil {
		return nil, false, fmt.Errorf("check privileges: %w", err)
	}
	problems = append(problems, found...)
	if candidate(names) {
		p := candidateProblem(names)
		add(alterSystem(p.Text, super, p.SQL...))
	}
	if keep == "-1" {
		p := alterSystem("max_slot_wal_keep_size is unlimited: while Freshet is stopped its slot keeps WAL for ever", super,
			"alter system set max_slot_wal_keep_size = '16GB';", "select pg_reload_conf();")
		p.Warning = true
		add(p)
	}
	return problems, true, nil
}
