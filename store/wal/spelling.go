package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// columnsSQL reads the types of the sources' columns: of a domain the type below it, of
// an enum anyenum.
const columnsSQL = `
select s.i, a.attname, case when t.typtype = 'e' then 'anyenum'::regtype::oid else t.oid end
from unnest($1::text[], $2::text[]) with ordinality as s (nspname, relname, i)
join pg_namespace n on n.nspname = s.nspname
join pg_class c on c.relnamespace = n.oid and c.relname = s.relname
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
cross join lateral (
  with recursive below (oid) as (
    select a.atttypid
    union all
    select d.typbasetype from below join pg_type d on d.oid = below.oid where d.typtype = 'd'
  )
  select * from below
) b join pg_type t on t.oid = b.oid and t.typtype <> 'd'`

// querier is a connection, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readSpelling returns how rows spell topics now. A source that lacks a column, or has
// one of a type that no template takes, is in quarantine: nothing is known of its topics.
func readSpelling(ctx context.Context, q querier, program *contract.Program) (*contract.Spelling, error) {
	var schemas, tables []string
	for _, source := range program.Sources() {
		schemas, tables = append(schemas, source.Schema), append(tables, source.Table)
	}
	types := make([]map[string]uint32, len(tables))
	rows, err := q.Query(ctx, columnsSQL, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("look at the types of columns: %w", err)
	}
	var at int
	var column string
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&at, &column, &oid}, func() error {
		if types[at-1] == nil {
			types[at-1] = make(map[string]uint32)
		}
		types[at-1][column] = oid
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the types of columns: %w", err)
	}
	var bound []*contract.Rows
	for i, source := range program.Sources() {
		var taken []uint32
		for _, name := range source.Columns() {
			taken = append(taken, types[i][name]) // 0, which no template takes: there is none
		}
		if of, err := source.Bind(taken); err == nil {
			bound = append(bound, of)
		}
	}
	return program.Spelling(bound...), nil
}

// learn takes in what a look at the catalog has brought for others than who looked.
func (s *session) learn(now catalog) {
	s.enums.add(now.enums)
	s.f.spelling.Store(now.spelling)
}

// Spelling returns how rows spell topics, as of the last look at the catalog: it is
// behind a change of a column's type by WatchInterval at most. Nil: the feed hasn't
// looked yet, or every text may be in a topic.
func (f *Feed) Spelling() *contract.Spelling { return f.spelling.Load() }
