package setup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// noOtherVersion is who may drop what the contract doesn't need.
const noOtherVersion = "whoever knows that no node of another version, which may need it, follows this database or will again"

// noPage is who may forget a contract.
const noPage = "whoever knows that no node of that version will come again, and no page of it is open"

// CheckLeftovers finds what the database has for other contracts than program's:
// tables and columns in the publication, columns of replica identities, REPLICA
// IDENTITY FULL, indexes; and the contracts themselves.
// Nodes set these up, and never take them away, since nodes of another version may
// need them: that is for a person to do, once a version is gone for good. So all of it
// is warnings, with the SQL for whoever knows. A column can't be dropped as long as the
// publication lists it. If the publication has no table of program's, what is there is
// more likely another service's than left over, and none of it is named. The error is
// a failure to look, not a finding.
func CheckLeftovers(ctx context.Context, conn *pgx.Conn, program *contract.Program, name string) (problems []Problem, err error) {
	p := publication{name: name, exists: true}
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	covered := false
	err = pgx.BeginTxFunc(ctx, conn, opts, func(tx pgx.Tx) error {
		if _, covered, err = publishes(ctx, tx, program, name); err != nil || !covered {
			return err
		}
		rows, err := tx.Query(ctx, `
select n.nspname, c.relname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace where p.pubname = $1 order by 1, 2`, name)
		if err != nil {
			return err
		}
		tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Schema, Table string }])
		if err != nil {
			return err
		}
		for _, at := range tables {
			source := program.Source(at.Schema, at.Table)
			known := source != nil
			if !known {
				source = &contract.Source{Schema: at.Schema, Table: at.Table}
			}
			t, err := lookUp(ctx, tx, source)
			switch {
			case err != nil:
				return err
			case !known:
				problems = append(problems, p.foreign(t))
			case len(t.unfit(name)) == 0 && len(t.columnProblems(source)) == 0: // else it is told by Check
				problems = append(problems, p.leftovers(t, source.Columns())...)
			}
		}
		versions, err := checkVersions(ctx, tx, program)
		problems = append(problems, versions...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for what is left of other contracts: %w", err)
	}
	if !covered {
		return []Problem{{Warning: true, Text: fmt.Sprintf("the publication %q has no table of this contract, so what is left of others isn't told from what they use: ask by the contract that uses this database", name)}}, nil
	}
	for i := range problems {
		problems[i].Warning, problems[i].mend = true, nil
		problems[i].By = cmp.Or(problems[i].By, noOtherVersion)
	}
	return problems, nil
}

// OtherContract returns the tables of a publication if there are some and none has to
// do with a source of program: the database is then set up for another contract. It isn't
// where a source that was followed here is in no publication at all: its table was swapped
// by a rename, and the publication has kept the old one.
func OtherContract(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string) ([]string, error) {
	tables, covered, err := publishes(ctx, conn, program, publication)
	if err != nil || covered || len(tables) == 0 {
		return nil, err
	}
	switch swapped, err := anySwapped(ctx, conn, program); {
	case err != nil:
		return nil, fmt.Errorf("look for tables that were swapped: %w", err)
	case swapped:
		return nil, nil
	}
	return tables, nil
}

// anySwapped reports whether a table of program's was followed in this database, and
// isn't published.
func anySwapped(ctx context.Context, db DBTX, program *contract.Program) (swapped bool, err error) {
	followed, err := hasFingerprints(ctx, db)
	if err != nil || !followed {
		return false, err
	}
	var sources []string
	for _, s := range program.Sources() {
		sources = append(sources, s.String())
	}
	err = db.QueryRow(ctx, `
select exists (
  select from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join freshet.fingerprint f on f.source = n.nspname || '.' || c.relname
  where f.source = any($1)
    and not exists (select from pg_publication_tables p where p.schemaname = n.nspname and p.tablename = c.relname))`, sources).Scan(&swapped)
	return swapped, err
}

// hasFingerprints reports whether Freshet's own tables are there.
func hasFingerprints(ctx context.Context, db DBTX) (has bool, err error) {
	err = db.QueryRow(ctx, `select to_regclass('freshet.fingerprint') is not null`).Scan(&has)
	return has, err
}

// publishes returns the tables that a publication has by name, and whether one of them, or
// one above or below it, is a source of program.
func publishes(ctx context.Context, db DBTX, program *contract.Program, publication string) (tables []string, covered bool, err error) {
	rows, err := db.Query(ctx, `
select n.nspname, c.relname, near.oid = r.prrelid
from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
cross join lateral (select r.prrelid as oid union select relid from pg_partition_ancestors(r.prrelid) union select relid from pg_partition_tree(r.prrelid)) near
join pg_class c on c.oid = near.oid join pg_namespace n on n.oid = c.relnamespace where p.pubname = $1 order by 1, 2`, publication)
	if err != nil {
		return nil, false, fmt.Errorf("look up the tables of the publication: %w", err)
	}
	var (
		schema, table string
		itself        bool
	)
	_, err = pgx.ForEachRow(rows, []any{&schema, &table, &itself}, func() error {
		covered = covered || program.Source(schema, table) != nil
		if itself {
			tables = append(tables, quoteIdent(schema, table))
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("look up the tables of the publication: %w", err)
	}
	return tables, covered, nil
}

// checkVersions finds the contracts that nodes follow the database with, or did, and
// have topics of their own.
func checkVersions(ctx context.Context, tx pgx.Tx, program *contract.Program) (problems []Problem, err error) {
	if followed, err := hasFingerprints(ctx, tx); err != nil || !followed {
		return nil, err
	}
	versions, err := Versions(ctx, tx, program.Hash())
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		floors := v.Foreign(program)
		if len(floors) == 0 {
			continue
		}
		text := fmt.Sprintf("by another contract, %s, there are topics that this one doesn't tell, or otherwise: %s; whoever follows these on nodes of this contract is told once per heartbeat that they may have changed", v.Contract, floors)
		if v.Alive {
			problems = append(problems, Problem{Text: text + " (a node with that contract lives)"})
			continue
		}
		problems = append(problems, Problem{Text: text, By: noPage, SQL: []string{"delete from freshet.fingerprint where source = " + quoteLiteral(VersionName(v.Contract)) + ";"}})
	}
	return problems, nil
}

// foreign is a table in the publication that is no source.
func (p *publication) foreign(t *table) Problem {
	sql := []string{"alter publication " + quoteIdent(p.name) + " drop table " + t.name + ";"}
	if slices.ContainsFunc(t.publications, func(other published) bool { return other.name != p.name }) {
		return Problem{Text: fmt.Sprintf("the publication %q has the table %s, which is no source of this contract", p.name, t.name), SQL: sql}
	}
	// Nobody needs its identity either, as far as it is ours.
	var indexes []string
	for i := range t.leaves {
		for _, x := range t.leaves[i].proposed() {
			if x.chosen {
				sql = append(sql, "alter table "+t.leaves[i].name+" replica identity default;")
			}
			indexes = append(indexes, "drop index concurrently "+quoteIdent(t.leaves[i].schema, x.name)+";")
		}
	}
	found := newProblem(fmt.Sprintf("the publication %q has the table %s, which is no source of this contract", p.name, t.name), "", sql...)
	found.SQL = append(found.SQL, indexes...)
	return found
}

// leftovers is what a source has for templates that aren't the contract's, which uses
// the columns want.
func (p *publication) leftovers(t *table, want []string) (problems []Problem) {
	var before, sql, after, needless []string
	full, narrowed := false, false
	list := slices.Clone(want)
	for i := range t.leaves {
		l := &t.leaves[i]
		if l.full() {
			to, ok := t.chooseAmong(l, t.keys(l), want, p.name)
			if !ok || to.full {
				full = true
				continue
			}
			before, sql, list = append(before, to.before...), append(sql, to.sql...), append(list, to.columns...)
			needless, narrowed = append(needless, "all that REPLICA IDENTITY FULL has (another subscriber may)"), true
			continue
		}
		identity := l.identity
		for _, x := range l.proposed() {
			drop := "drop index concurrently " + quoteIdent(l.schema, x.name) + ";"
			if !x.chosen {
				problems = append(problems, Problem{Text: fmt.Sprintf("the index %s of %s is no replica identity any more", quoteIdent(x.name), l.name), SQL: []string{drop}})
				continue
			}
			if to, ok := t.narrower(l, want, p.name); ok {
				before, sql, after = append(before, to.before...), append(sql, to.sql...), append(after, drop)
				needless = append(needless, without(l.identity, to.columns)...)
				identity = to.columns
			}
		}
		list = append(list, identity...)
	}
	list = distinct(list)
	switch now := t.in(p.name); {
	case full: // and so without a list
	case now.columns == nil && narrowed && now.direct: // there was no list for the sake of FULL
		sql = append(p.relist(t, list), sql...) // ALTER TABLE comes last, for its lock
	case now.columns != nil && len(without(now.columns, list)) > 0:
		needless = append(needless, without(now.columns, list)...)
		sql = append(p.relist(t, list), sql...)
	}
	if len(sql) == 0 {
		return problems
	}
	found := newProblem(fmt.Sprintf("the publication %q, or the replica identity, has columns of %s that this contract doesn't need: %s", p.name, t.name, strings.Join(distinct(needless), ", ")), "", sql...)
	found.SQL = slices.Concat(before, found.SQL, after)
	return append(problems, found)
}

// narrower finds an identity in the place of one of ours that has columns which
// neither the templates nor its key need.
func (t *table) narrower(l *leaf, want []string, publication string) (choice, bool) {
	theirs := slices.DeleteFunc(t.keys(l), func(x index) bool { return strings.HasPrefix(x.name, identityPrefix) })
	to, ok := t.chooseAmong(l, theirs, want, publication)
	return to, ok && !to.full && len(without(l.identity, to.columns)) > 0
}

// proposed are the leaf's indexes that we have proposed, for this contract or another.
func (l *leaf) proposed() []index {
	return slices.DeleteFunc(slices.Clone(l.indexes), func(x index) bool { return !strings.HasPrefix(x.name, identityPrefix) })
}

// without returns those of all that aren't among some.
func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(some, name) })
}
