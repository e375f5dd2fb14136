package setup

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// table is what the catalog says of a source's table.
type table struct {
	oid         uint32
	name        string // quoted
	kind        string // relkind
	persistence string // relpersistence
	partition   bool   // it is a partition of another table
	columns     map[string]column
	children    []child // that inherit from it, partitions included
	leaves      []leaf  // the table itself, or a partitioned table's leaves
	key         bool    // it has a primary key that can be an identity
	version     int     // of the server: 150014
	// publications are all that publish the table, a part of it or an ancestor.
	publications []published
}

// child is a table below the source's.
type child struct {
	name              string // quoted
	kind, persistence string
	partition         bool
}

type column struct {
	typeOID       uint32
	typeName      string // as in DDL, without length
	baseOID       uint32 // of a domain: the type below it, domains apart; else typeOID
	base          string // of a domain: its name; else empty
	enum          bool   // or a domain over one
	notNull       bool
	generated     bool
	collation     string // its name, if it is nondeterministic
	maxBytes      int    // of a value; 0: unbounded
	boundedByTree bool   // an index or a foreign key refuses long values already
}

// leaf is a table that holds rows; each has an identity of its own.
type leaf struct {
	oid             uint32
	schema, table   string
	name            string // quoted
	kind            string // relreplident
	owned           bool   // by a role that we have the rights of
	stored, virtual bool   // it has generated columns of that kind
	indexes         []index
	// identity are the columns of the replica identity that is in force; nil:
	// there is none. With REPLICA IDENTITY FULL it is all of them, and not used.
	identity []string
}

// full says that the identity is the whole row.
func (l *leaf) full() bool { return l.kind == "f" }

// identified says that UPDATE and DELETE of a published leaf have what to log.
func (l *leaf) identified() bool { return l.full() || l.identity != nil }

// index is a unique index that may serve as identity unless stale, which may
// not: invalid, partial, deferrable, on expressions or not unique.
type index struct {
	name     string // unquoted
	primary  bool
	stale    bool
	nullable bool // one of its columns may be NULL
	chosen   bool // it is the identity, by REPLICA IDENTITY USING INDEX
	columns  []string
}

// published is how a publication has a table.
type published struct {
	name     string
	direct   bool     // by name, not as one of all tables or of a schema
	root     bool     // the source's table itself, not a part or an ancestor of it
	above    bool     // an ancestor of the source's table
	columns  []string // nil: all
	filtered bool
	changes  bool // it publishes UPDATE or DELETE
	stored   bool // it publishes stored generated columns (PostgreSQL 18)
}

// lookUp reads the catalog; nil if there is no such table.
func lookUp(ctx context.Context, tx pgx.Tx, source *contract.Source) (_ *table, err error) {
	t := &table{name: quoteIdent(source.Schema, source.Table)}
	err = tx.QueryRow(ctx, `
select c.oid, c.relkind::text, c.relpersistence::text, c.relispartition, current_setting('server_version_num')::int,
  exists (select from pg_index x where x.indrelid = c.oid and x.indisprimary and x.indimmediate and x.indisvalid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2`, source.Schema, source.Table).
		Scan(&t.oid, &t.kind, &t.persistence, &t.partition, &t.version, &t.key)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // said above
	}
	for _, look := range []func(context.Context, pgx.Tx) error{t.lookUpColumns, t.lookUpTree, t.lookUpIndexes, t.lookUpPublications} {
		if err != nil {
			return nil, fmt.Errorf("check table %s: %w", t.name, err)
		}
		err = look(ctx, tx)
	}
	if err != nil {
		return nil, fmt.Errorf("check table %s: %w", t.name, err)
	}
	return t, nil
}

func (t *table) lookUpColumns(ctx context.Context, tx pgx.Tx) error {
	// Values of a column that a btree holds, or whose values another table's
	// btree holds, are below a third of a page for good. A longest length of
	// n characters is 4n bytes at most.
	rows, err := tx.Query(ctx, `
select a.attname, a.atttypid, format_type(a.atttypid, null), b.oid, case when t.typtype = 'd' then format_type(b.oid, null) else '' end, (select typtype from pg_type where oid = b.oid) = 'e',
  a.attnotnull, a.attgenerated <> '', case when c.collisdeterministic then '' else coalesce(c.collname, '') end,
  case when a.attlen > 0 then a.attlen when a.atttypid = 'varchar'::regtype and a.atttypmod > 4 then (a.atttypmod - 4) * 4 else 0 end,
  exists (select from pg_index x join pg_class i on i.oid = x.indexrelid join pg_am m on m.oid = i.relam
    where x.indrelid = a.attrelid and x.indisvalid and x.indpred is null and m.amname = 'btree' and a.attnum = any((x.indkey::int2[])[0:x.indnkeyatts - 1]))
  or exists (select from pg_constraint f where f.conrelid = a.attrelid and f.contype = 'f' and f.convalidated and a.attnum = any(f.conkey))
from pg_attribute a join pg_type t on t.oid = a.atttypid
cross join lateral (
  with recursive below (oid) as (
    select a.atttypid
    union all
    select d.typbasetype from below join pg_type d on d.oid = below.oid where d.typtype = 'd'
  )
  select oid from below join pg_type d using (oid) where d.typtype <> 'd'
) b left join pg_collation c on c.oid = a.attcollation
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped`, t.oid)
	if err != nil {
		return err
	}
	t.columns = make(map[string]column)
	var name string
	var c column
	_, err = pgx.ForEachRow(rows, []any{&name, &c.typeOID, &c.typeName, &c.baseOID, &c.base, &c.enum, &c.notNull, &c.generated, &c.collation, &c.maxBytes, &c.boundedByTree}, func() error {
		t.columns[name] = c
		return nil
	})
	return err
}

// lookUpTree reads what is below the table, and of each that holds rows itself
// what its identity depends on.
func (t *table) lookUpTree(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, treeSQL+`
select c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispartition, c.relreplident::text, pg_has_role(c.relowner, 'usage'),
  exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 's' and not a.attisdropped),
  exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 'v' and not a.attisdropped)
from tree join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace order by 2, 3`, t.oid)
	if err != nil {
		return err
	}
	var (
		l leaf
		c child
	)
	_, err = pgx.ForEachRow(rows, []any{&l.oid, &l.schema, &l.table, &c.kind, &c.persistence, &c.partition, &l.kind, &l.owned, &l.stored, &l.virtual}, func() error {
		l.name = quoteIdent(l.schema, l.table)
		c.name = l.name
		if l.oid != t.oid {
			t.children = append(t.children, c)
		}
		if c.kind == "r" && (l.oid == t.oid || c.partition) { // a child by INHERITS isn't published along with it
			t.leaves = append(t.leaves, l)
		}
		return nil
	})
	return err
}

// treeSQL names the table $1 and all that inherit from it.
const treeSQL = `
with recursive tree (oid) as (
  select $1::oid
  union all
  select i.inhrelid from pg_inherits i join tree on i.inhparent = tree.oid
)`

func (t *table) lookUpIndexes(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, treeSQL+`
select x.indrelid, i.relname, x.indisprimary, x.indisreplident,
  not (x.indisunique and x.indimmediate and x.indisvalid and x.indislive and x.indpred is null and x.indexprs is null),
  not coalesce(k.filled, false), coalesce(k.columns, '{}')
from tree join pg_index x on x.indrelid = tree.oid join pg_class i on i.oid = x.indexrelid
cross join lateral (
  select bool_and(a.attnotnull) as filled, array_agg(a.attname::text order by a.attname) as columns
  from pg_attribute a where a.attrelid = x.indrelid and a.attnum = any((x.indkey::int2[])[0:x.indnkeyatts - 1])
) k
order by i.relname`, t.oid)
	if err != nil {
		return err
	}
	var (
		of uint32
		i  index
	)
	_, err = pgx.ForEachRow(rows, []any{&of, &i.name, &i.primary, &i.chosen, &i.stale, &i.nullable, &i.columns}, func() error {
		for at := range t.leaves {
			if l := &t.leaves[at]; l.oid == of {
				i.chosen = i.chosen && l.kind == "i"
				l.indexes = append(l.indexes, i)
				if !i.stale && (l.kind == "d" && i.primary || i.chosen) {
					l.identity = i.columns
				}
			}
		}
		i.columns = nil // the next row has an array of its own
		return nil
	})
	return err
}

// lookUpPublications reads who else publishes the table, or a part or an
// ancestor of it: each of them may need its identity. (pubgencols is there from
// PostgreSQL 18 on.)
func (t *table) lookUpPublications(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, treeSQL+`, below as (select oid from tree),
above as (select relid as oid from pg_partition_ancestors($1) where relid <> $1),
near as (select oid, false as up from below union all select oid, true from above)
select p.pubname, r.prrelid is not null, near.oid = $1, near.up,
  (select array_agg(a.attname::text order by a.attname) from pg_attribute a where a.attrelid = r.prrelid and a.attnum = any(r.prattrs)),
  coalesce(r.prqual is not null, false), p.pubupdate or p.pubdelete, coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false)
from near join pg_class c on c.oid = near.oid
cross join pg_publication p
left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = near.oid
where r.prrelid is not null or p.puballtables
  or exists (select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)
order by 1, near.up, near.oid = $1`, t.oid)
	if err != nil {
		return err
	}
	t.publications, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p published, err error) {
		return p, row.Scan(&p.name, &p.direct, &p.root, &p.above, &p.columns, &p.filtered, &p.changes, &p.stored)
	})
	return err
}
