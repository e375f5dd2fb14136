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

// table is what the catalog says of a source's table.
type table struct {
	name      string // quoted
	columns   map[string]column
	identity  []string // columns of the replica identity, of the table or its first leaf
	leaves    []leaf   // the table itself, or a partitioned table's leaves
	key       []string // columns of the primary key
	indexes   []index  // that may serve as identity
	published *published
}

type column struct {
	typeOID   uint32
	notNull   bool
	generated bool
}

// leaf is a table that holds rows; each has an identity of its own.
type leaf struct {
	name     string // quoted
	kind     string // relreplident
	identity []string
}

type index struct {
	name    string
	columns []string
}

// lookUp reads the catalog. A nil table means that there is nothing to check
// further; the problems say why.
func lookUp(ctx context.Context, tx pgx.Tx, source *contract.Source, publication string) (*table, []Problem, error) {
	t := &table{name: quoteIdent(source.Schema, source.Table), columns: make(map[string]column)}
	fail := func(err error) (*table, []Problem, error) {
		return nil, nil, fmt.Errorf("check table %s: %w", t.name, err)
	}
	var (
		oid               uint32
		kind, persistence string
	)
	err := tx.QueryRow(ctx, `
select c.oid, c.relkind::text, c.relpersistence::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2`, source.Schema, source.Table).Scan(&oid, &kind, &persistence)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, []Problem{{Text: "the table " + t.name + " doesn't exist: run the migration that creates it"}}, nil
	case err != nil:
		return fail(err)
	case kind != "r" && kind != "p" || persistence != "p":
		return nil, []Problem{{Text: "the source " + t.name + " is not an ordinary, logged table: its changes aren't in the WAL"}}, nil
	}
	rows, err := tx.Query(ctx, `
select attname, atttypid, attnotnull, attgenerated <> '' from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped`, oid)
	if err != nil {
		return fail(err)
	}
	var name string
	var c column
	if _, err := pgx.ForEachRow(rows, []any{&name, &c.typeOID, &c.notNull, &c.generated}, func() error {
		t.columns[name] = c
		return nil
	}); err != nil {
		return fail(err)
	}
	if t.leaves, err = lookUpLeaves(ctx, tx, oid); err != nil {
		return fail(err)
	}
	if len(t.leaves) > 0 {
		t.identity = t.leaves[0].identity
	}
	if t.key, t.indexes, err = lookUpIndexes(ctx, tx, oid); err != nil {
		return fail(err)
	}
	p := published{}
	err = tx.QueryRow(ctx, `
select (select array_agg(attname::text order by attname) from pg_attribute where attrelid = r.prrelid and attnum = any(r.prattrs)), r.prqual is not null
from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1 and r.prrelid = $2`, publication, oid).
		Scan(&p.columns, &p.filtered)
	switch {
	case err == nil:
		t.published = &p
	case !errors.Is(err, pgx.ErrNoRows):
		return fail(err)
	}
	return t, t.columnProblems(source), nil
}

func lookUpLeaves(ctx context.Context, tx pgx.Tx, oid uint32) ([]leaf, error) {
	rows, err := tx.Query(ctx, `
with recursive tree as (
  select c.oid, c.relkind, c.relreplident, c.relname, c.relnamespace from pg_class c where c.oid = $1
  union all
  select c.oid, c.relkind, c.relreplident, c.relname, c.relnamespace
  from pg_inherits i join tree on i.inhparent = tree.oid join pg_class c on c.oid = i.inhrelid
)
select format('%I.%I', n.nspname, t.relname), t.relreplident::text, coalesce((
  select array_agg(a.attname::text order by a.attname) from pg_index x join pg_attribute a on a.attrelid = t.oid and a.attnum = any(x.indkey::int2[])
  where x.indrelid = t.oid and x.indisvalid and case t.relreplident when 'd' then x.indisprimary when 'i' then x.indisreplident end), '{}')
from tree t join pg_namespace n on n.oid = t.relnamespace where t.relkind = 'r' order by 1`, oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l leaf, err error) {
		return l, row.Scan(&l.name, &l.kind, &l.identity)
	})
}

func lookUpIndexes(ctx context.Context, tx pgx.Tx, oid uint32) (key []string, indexes []index, err error) {
	rows, err := tx.Query(ctx, `
select c.relname, x.indisprimary, array(select a.attname::text from pg_attribute a where a.attrelid = x.indrelid and a.attnum = any(x.indkey::int2[]) order by 1)
from pg_index x join pg_class c on c.oid = x.indexrelid
where x.indrelid = $1 and x.indisunique and x.indimmediate and x.indisvalid and x.indpred is null and x.indexprs is null order by 1`, oid)
	if err != nil {
		return nil, nil, err
	}
	var (
		i       index
		primary bool
	)
	_, err = pgx.ForEachRow(rows, []any{&i.name, &primary, &i.columns}, func() error {
		if primary {
			key = slices.Clone(i.columns)
		}
		indexes = append(indexes, index{name: i.name, columns: slices.Clone(i.columns)})
		return nil
	})
	return key, indexes, err
}

// columnProblems checks that the templates' columns exist, can be told as
// text, and are in the WAL.
func (t *table) columnProblems(source *contract.Source) []Problem {
	var problems []Problem
	var types []uint32
	for _, name := range source.Columns() {
		c, ok := t.columns[name]
		switch {
		case !ok:
			problems = append(problems, Problem{Text: fmt.Sprintf("the table %s has no column %q, which a topic template uses", t.name, name)})
		case c.generated:
			problems = append(problems, Problem{Text: fmt.Sprintf("the column %q of %s is generated: it isn't in the WAL, so no topic can use it", name, t.name)})
		default:
			types = append(types, c.typeOID)
		}
	}
	if len(problems) == 0 {
		if _, err := source.Bind(types); err != nil {
			problems = append(problems, Problem{Text: err.Error()})
		}
	}
	return problems
}

// covers reports whether have contains each of want.
func covers(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// identityProblems checks that the replica identity of every leaf covers the
// templates' columns, so that moves and deletes name the old topics. It
// returns the columns that the identity will have when its problems are
// mended.
func (t *table) identityProblems(source *contract.Source) (identity []string, problems []Problem) {
	want := source.Columns()
	identity = t.identity
	for _, l := range t.leaves {
		switch {
		case l.kind == "f":
			if t.published != nil && t.published.columns != nil {
				problems = append(problems, Problem{
					Text: fmt.Sprintf("%s has REPLICA IDENTITY FULL and the publication a column list: every UPDATE and DELETE of the application fails", l.name),
					SQL:  []string{"alter table " + l.name + " replica identity default;"},
				})
			}
			continue
		case covers(l.identity, want) && len(l.identity) > 0:
			continue
		case len(want) == 0 && l.kind == "d" && len(l.identity) > 0:
			continue
		}
		p := t.mendIdentity(l, want)
		identity = append(slices.Clone(identity), p.columns...)
		problems = append(problems, p.Problem)
	}
	slices.Sort(identity)
	return slices.Compact(identity), problems
}

type identityProblem struct {
	Problem
	columns []string // the identity's, once mended
}

// mendIdentity finds what gives a leaf an identity that covers want.
func (t *table) mendIdentity(l leaf, want []string) identityProblem {
	text := fmt.Sprintf("the replica identity of %s doesn't cover the columns %s: moves and deletes couldn't name the old topics",
		l.name, strings.Join(want, ", "))
	columns := slices.Clone(t.key)
	for _, w := range want {
		if !slices.Contains(columns, w) {
			columns = append(columns, w)
		}
	}
	var sql []string
	for _, name := range columns {
		if c, ok := t.columns[name]; ok && !c.notNull {
			sql = append(sql, "alter table "+l.name+" alter column "+quoteIdent(name)+" set not null;")
		}
	}
	if len(t.leaves) == 1 && t.leaves[0].name == l.name {
		for _, i := range t.indexes {
			if covers(i.columns, want) && len(sql) == 0 && t.allNotNull(i.columns) {
				return identityProblem{columns: i.columns, Problem: Problem{Text: text, apply: true,
					SQL: []string{"alter table " + l.name + " replica identity using index " + quoteIdent(i.name) + ";"}}}
			}
		}
	}
	quoted := make([]string, len(columns))
	for i, name := range columns {
		quoted[i] = quoteIdent(name)
	}
	name := quoteIdent("freshet_identity_" + strings.Trim(l.name[strings.LastIndex(l.name, ".")+1:], `"`))
	sql = append(sql,
		"create unique index concurrently "+name+" on "+l.name+" ("+strings.Join(quoted, ", ")+");",
		"alter table "+l.name+" replica identity using index "+name+";")
	return identityProblem{columns: columns, Problem: Problem{Text: text, SQL: sql}}
}

func (t *table) allNotNull(columns []string) bool {
	for _, name := range columns {
		if !t.columns[name].notNull {
			return false
		}
	}
	return true
}

// columnList is the table as the publication should list it: the templates'
// columns and the identity's, now and after it is mended, and nothing else, so
// that bodies never travel. A list that lacks an identity column would make
// every UPDATE and DELETE of the application fail.
func (t *table) columnList(source *contract.Source, identity []string) string {
	columns := t.needed(source, identity)
	if len(columns) == 0 || t.full() {
		return t.name
	}
	quoted := make([]string, len(columns))
	for i, name := range columns {
		quoted[i] = quoteIdent(name)
	}
	return t.name + " (" + strings.Join(quoted, ", ") + ")"
}

func (t *table) full() bool {
	return slices.ContainsFunc(t.leaves, func(l leaf) bool { return l.kind == "f" })
}

func (t *table) needed(source *contract.Source, identity []string) []string {
	columns := slices.Concat(source.Columns(), identity)
	for _, l := range t.leaves {
		columns = append(columns, l.identity...)
	}
	slices.Sort(columns)
	return slices.Compact(columns)
}

// publishedProblems checks a table's place in an existing publication; more
// than the contract needs is accepted, for rolling deploys.
func (t *table) publishedProblems(source *contract.Source, publication string, identity []string) []Problem {
	replace := []string{
		"alter publication " + quoteIdent(publication) + " drop table " + t.name + ";",
		"alter publication " + quoteIdent(publication) + " add table " + t.columnList(source, identity) + ";",
	}
	var problems []Problem
	if t.published.filtered {
		problems = append(problems, Problem{SQL: replace, apply: true,
			Text: fmt.Sprintf("the publication %q has a row filter on %s: changes would be lost", publication, t.name)})
	}
	if t.published.columns != nil && !covers(t.published.columns, t.needed(source, identity)) {
		problems = append(problems, Problem{SQL: replace, apply: true,
			Text: fmt.Sprintf("the publication %q lists too few columns of %s: it needs %s", publication, t.name, strings.Join(t.needed(source, identity), ", "))})
	}
	return problems
}
