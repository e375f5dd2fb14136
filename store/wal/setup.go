package wal

import (
	"context"
	"errors"
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
	// apply says that migrate may run SQL by itself: it is ours, and no
	// moment of it breaks writers.
	apply bool
}

// SetupError says that capture can't run, or can't be trusted, and what to do.
type SetupError struct{ Problems []Problem }

func (e *SetupError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Text)
		if len(p.SQL) > 0 {
			b.WriteString(" — run: ")
			b.WriteString(strings.Join(p.SQL, " "))
		}
	}
	return b.String()
}

func fatalOnly(problems []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Warning })
}

// checkSetup refuses a database that isn't set up, before a connection for
// replication and a slot are opened.
func (s *session) checkSetup(ctx context.Context) error {
	problems, err := Check(ctx, s.watchConn, s.f.cfg.Program, s.f.cfg.Publication)
	if err != nil {
		return err
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
		if problems, err = checkServer(ctx, tx); err != nil || len(fatalOnly(problems)) > 0 {
			return err
		}
		found, err := checkPublication(ctx, tx, program, publication)
		problems = append(problems, found...)
		return err
	})
	return problems, err
}

// checkServer checks what belongs to the server and the role.
func checkServer(ctx context.Context, tx pgx.Tx) ([]Problem, error) {
	var (
		version                    int
		standby, mayReplicate, own bool
		level, keep, names, role   string
	)
	err := tx.QueryRow(ctx, `
select current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
  current_setting('max_slot_wal_keep_size'), current_setting('synchronous_standby_names'), quote_ident(current_user),
  (select rolsuper or rolreplication from pg_roles where rolname = current_user),
  to_regclass('freshet.incarnation') is not null and to_regclass('freshet.fingerprint') is not null`).
		Scan(&version, &standby, &level, &keep, &names, &role, &mayReplicate, &own)
	if err != nil {
		return nil, fmt.Errorf("check set-up: %w", err)
	}
	var problems []Problem
	add := func(p Problem) { problems = append(problems, p) }
	if version < 150000 {
		add(Problem{Text: fmt.Sprintf("PostgreSQL %d is too old: publications have column lists from 15 on", version/10000)})
	}
	if standby {
		add(Problem{Text: "the database is a standby: connect to the primary"})
	}
	if level != "logical" {
		add(Problem{Text: "wal_level is " + level + ", not logical; the change needs a restart of Postgres",
			SQL: []string{"alter system set wal_level = 'logical';"}})
	}
	if !mayReplicate {
		add(Problem{Text: "the role " + role + " may not replicate", SQL: []string{"alter role " + role + " replication;"}})
	}
	if !own {
		add(Problem{Text: "the schema freshet is missing or incomplete: run `freshet migrate up`"})
	}
	if candidate(names) {
		add(candidateProblem(names))
	}
	if keep == "-1" {
		add(Problem{Warning: true, Text: "max_slot_wal_keep_size is unlimited: while Freshet is stopped its slot keeps WAL for ever",
			SQL: []string{"alter system set max_slot_wal_keep_size = '16GB';", "select pg_reload_conf();"}})
	}
	return problems, nil
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

// published is what a publication says of one table.
type published struct {
	columns  []string // nil: all
	filtered bool
}

// checkPublication checks the publication and each source's table.
func checkPublication(ctx context.Context, tx pgx.Tx, program *contract.Program, publication string) ([]Problem, error) {
	var viaRoot, all, exists bool
	err := tx.QueryRow(ctx, `
select pubviaroot, puballtables, pubinsert and pubupdate and pubdelete and pubtruncate from pg_publication where pubname = $1`, publication).
		Scan(&viaRoot, &all, &exists)
	missing := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !missing {
		return nil, fmt.Errorf("check publication: %w", err)
	}
	var problems []Problem
	if !missing && (!viaRoot || !exists) {
		problems = append(problems, Problem{
			Text:  fmt.Sprintf("the publication %q doesn't publish everything via the partition root", publication),
			SQL:   []string{"alter publication " + quoteIdent(publication) + " set (publish_via_partition_root = true, publish = 'insert, update, delete, truncate');"},
			apply: true,
		})
	}
	var tables []string // what the publication should list
	for _, source := range program.Sources() {
		table, found, err := lookUp(ctx, tx, source, publication)
		if err != nil {
			return nil, err
		}
		of := len(problems)
		problems = append(problems, found...)
		if table == nil {
			nameSource(problems[of:], source)
			continue
		}
		identity, found := table.identityProblems(source)
		list := table.columnList(source, identity)
		switch {
		case missing:
			tables = append(tables, list)
		case all:
		case table.published == nil:
			problems = append(problems, Problem{
				Text:  fmt.Sprintf("the publication %q lacks the table %s", publication, table.name),
				SQL:   []string{"alter publication " + quoteIdent(publication) + " add table " + list + ";"},
				apply: true,
			})
		default:
			problems = append(problems, table.publishedProblems(source, publication, identity)...)
		}
		// After the publication's list covers the new identity's columns:
		// the other order would make every UPDATE fail in between.
		problems = append(problems, found...)
		nameSource(problems[of:], source)
	}
	if missing && len(fatalOnly(problems)) == countApply(problems) {
		create := Problem{
			Text:  fmt.Sprintf("the publication %q is missing", publication),
			SQL:   []string{"create publication " + quoteIdent(publication) + " for table " + strings.Join(tables, ", ") + " with (publish_via_partition_root = true);"},
			apply: true,
		}
		problems = append([]Problem{create}, problems...)
	} else if missing {
		problems = append(problems, Problem{Text: fmt.Sprintf("the publication %q is missing; it can be made once the rest is mended", publication)})
	}
	return problems, nil
}

func nameSource(problems []Problem, source *contract.Source) {
	for i := range problems {
		problems[i].Source = source.String()
	}
}

func countApply(problems []Problem) int {
	n := 0
	for _, p := range problems {
		if p.apply && !p.Warning {
			n++
		}
	}
	return n
}

func quoteIdent(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
