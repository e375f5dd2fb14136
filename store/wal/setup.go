package wal

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Problem is one thing in the database's set-up that isn't as capture needs
// it, and the SQL that mends it.
type Problem struct {
	Text    string   // one sentence
	SQL     []string // to run in this order; may be empty
	Warning bool     // capture works, but somebody should know
	// Source is the source that it is about, as contract.Source.String has it.
	// Empty: it concerns all of them.
	Source string
	// By says whose rights the SQL needs, if not those of the role that looked:
	// "a superuser". Empty: that role may run it.
	By string

	// mend is what migrate may run by itself, in one transaction: it is ours,
	// and no moment of it breaks writers.
	mend []string
}

// newProblem is a problem with the statements that mend it, which can run in one
// transaction and belong in one if there are several. by is whose rights they
// need, if not ours.
func newProblem(text, by string, sql ...string) Problem {
	p := Problem{Text: text, By: by, SQL: sql}
	if by == "" {
		p.mend = sql
	}
	switch {
	case slices.ContainsFunc(sql, func(s string) bool { return strings.HasPrefix(s, "alter table ") }):
		p.SQL = slices.Concat([]string{"begin;", "set local lock_timeout = '" + lockTimeout + "';"}, sql, []string{"commit;"})
	case len(sql) > 1:
		p.SQL = slices.Concat([]string{"begin;"}, sql, []string{"commit;"})
	}
	return p
}

// lockTimeout is how long a statement of ours may wait for a lock of the
// application's tables: whatever comes after it waits as well. It is below
// deadlock_timeout, so that in a deadlock it is never the application that fails.
const lockTimeout = "500ms"

// SetupError says that capture can't run, or can't be trusted, and what to do.
type SetupError struct{ Problems []Problem }

func (e *SetupError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		switch {
		case i > 0 && len(e.Problems[i-1].SQL) > 0: // it ends in a semicolon
			b.WriteString(" ")
		case i > 0:
			b.WriteString("; ")
		}
		b.WriteString(p.Text)
		if len(p.SQL) > 0 {
			b.WriteString(" — run")
			if p.By != "" {
				b.WriteString(", as ")
				b.WriteString(p.By)
			}
			b.WriteString(": ")
			b.WriteString(strings.Join(p.SQL, " "))
		}
	}
	return b.String()
}

func fatalOnly(problems []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Warning })
}

// checkSetup refuses a database that isn't set up, before a connection for
// replication and a slot are opened. Once the node has served, what is wrong with
// one source is for quarantine: the others, and reads, go on.
func (s *session) checkSetup(ctx context.Context) error {
	problems, err := Check(ctx, s.watchConn, s.f.cfg.Program, s.f.cfg.Publication)
	if err != nil {
		return err
	}
	if s.f.served {
		problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.Source != "" })
	}
	if len(fatalOnly(problems)) == 0 {
		if problems, err = CheckSlot(ctx, s.watchConn, s.f.cfg.Slot); err != nil {
			return err
		}
	}
	if fatal := fatalOnly(problems); len(fatal) > 0 {
		return &SetupError{Problems: fatal}
	}
	s.setUnsound(ctx, nil)
	return nil
}

// Check compares a database with what capture of program needs, and returns
// every problem it finds; none means that capture can run. It changes nothing.
// The error is a failure to look, not a finding.
func Check(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) (problems []Problem, err error) {
	// One snapshot: a change between two look-ups must not make up a problem.
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, conn, opts, func(tx pgx.Tx) error {
		var supported bool
		if problems, supported, err = checkServer(ctx, tx); err != nil || !supported {
			return err
		}
		found, err := checkPublication(ctx, tx, program, publication)
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

// checkServer checks what belongs to the server, the database and the role.
// supported is false where the catalog can't be asked for the rest.
func checkServer(ctx context.Context, tx pgx.Tx) (problems []Problem, supported bool, err error) {
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

// candidate reports whether synchronous_standby_names could choose a walsender
// of our application_name.
func candidate(names string) bool {
	for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return strings.ContainsRune(" ,()\t\n", r) }) {
		if name = strings.Trim(name, `"`); name == "*" || strings.EqualFold(name, applicationName) {
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

func quoteIdent(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
