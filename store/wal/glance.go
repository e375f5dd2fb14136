package wal

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet-dev/freshet/contract"
)

// catalog is what the catalog says of the sources at one moment.
type catalog struct {
	sights   []sight // one per source, in the program's order
	objects  objects
	enums    []uint32 // OIDs of the types of columns that are enums, or domains over one
	spelling *contract.Spelling
}

// sight is what the catalog says of one source.
type sight struct {
	fingerprint string   // of all of it
	shape       string   // of all but the files that its rows are in
	empty       []string // those of these files that nothing has been counted in: TRUNCATE makes such ones
}

// truncatedSince reports whether nothing has come between two sights but a TRUNCATE.
func (s sight) truncatedSince(before sight) bool {
	isNew := func(file string) bool { return !slices.Contains(before.empty, file) }
	return s.shape == before.shape && slices.ContainsFunc(s.empty, isNew)
}

// objects are what a glance looks at: rows of the catalog by where they are, in
// the versions that a look has read; and tables to which others could be added
// without that any of these changes.
type objects struct {
	classes, members, publications, schemas []pgtype.TID
	labels, columns                         []pgtype.TID // of enums that rows hold; of the tables, and of composites that rows hold
	parents, policed, outside               []uint32     // with children; with row security; not in the publication by themselves
}

// catalogSQL sums up, for each source, what the catalog says of its table, the
// tables that inherit from it, its policies, its place in the publication, and what
// gives its rows' values their names, types and texts: its columns, the attributes of
// the composites and the labels of the enums that its rows hold anywhere. One that is
// renamed changes what rows say, and no row. Any change of a row of the catalog gives
// it another xmin, even one that is taken back by the next statement, and a rewrite, a
// truncation or another persistence are changes of the row in pg_class. (VACUUM and
// ANALYZE change rows in place, and freezing keeps xmin.)
const catalogSQL = `
with recursive named as (
  select s.i, n.oid as schema, c.oid
  from unnest($1::text[], $2::text[]) with ordinality as s (nspname, relname, i)
  left join pg_namespace n on n.nspname = s.nspname
  left join pg_class c on c.relnamespace = n.oid and c.relname = s.relname
), tree as (
  select i, oid from named where oid is not null
  union
  select t.i, h.inhrelid from pg_inherits h join tree t on h.inhparent = t.oid
), types (i, whole, oid, plain) as ( -- whole: a column's; oid: that or what is inside; plain: below domains only
  select t.i, a.atttypid as whole, a.atttypid as oid, true as plain from tree t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  union
  select types.i, whole, within.oid, plain and t.typtype = 'd' from types join pg_type t on t.oid = types.oid cross join lateral (
    select t.typbasetype where t.typtype = 'd'
    union all select t.typelem where t.typelem <> 0
    union all select a.atttypid from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    union all select r.rngsubtype from pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
  ) within (oid)
), shaped as ( -- whose columns are those of rows, or of what is in them
  select i, oid from tree
  union
  select types.i, t.typrelid from types join pg_type t on t.oid = types.oid where t.typtype = 'c'
), classes (i, part, shape, empty) as (
  select i, 'c' || c.oid || ':' || c.xmin,
    'c' || c.oid || ':' || (to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid}'::text[]),
    case when c.relpages = 0 and c.reltuples < 0 then c.oid || ':' || c.relfilenode end
  from shaped join pg_class c using (oid)
), parts (i, part) as (
  select i, 'n' || n.oid || ':' || n.xmin from named join pg_namespace n on n.oid = schema
  union all select i, 'h' || h.inhrelid || ':' || h.xmin from tree join pg_inherits h on h.inhparent = tree.oid
  union all select i, 'x' || x.indexrelid || ':' || x.xmin from tree join pg_index x on x.indrelid = tree.oid
  union all select i, 'a' || a.attrelid || '.' || a.attnum || ':' || a.xmin from shaped join pg_attribute a on a.attrelid = shaped.oid and a.attnum > 0
  union all select i, 's' || s.oid || ':' || s.xmin from tree join pg_policy s on s.polrelid = tree.oid
  union all select i, 'e' || e.oid || ':' || e.xmin from (select distinct i, oid from types) held join pg_enum e on e.enumtypid = held.oid
  union all select i, 'p' || p.oid || ':' || p.xmin from named, pg_publication p where p.pubname = $3
  union all select i, 'm' || m.oid || ':' || m.xmin from named, pg_publication_namespace m
    join pg_publication p on p.oid = m.pnpubid and p.pubname = $3
  union all select i, 'r' || r.oid || ':' || r.xmin from tree join pg_publication_rel r on r.prrelid = tree.oid
    join pg_publication p on p.oid = r.prpubid and p.pubname = $3
)
select
  coalesce((select md5(string_agg(part, ' ' order by part)) from (select i, part from parts union all select i, part from classes) of where of.i = named.i), 'none'),
  coalesce((select md5(string_agg(part, ' ' order by part)) from (select i, part from parts union all select i, shape from classes) of where of.i = named.i), 'none'),
  array(select empty from classes where classes.i = named.i and empty is not null),
  array(select c.ctid from shaped join pg_class c using (oid) where shaped.i = named.i),
  array(select r.ctid from tree join pg_publication_rel r on r.prrelid = tree.oid
    join pg_publication p on p.oid = r.prpubid and p.pubname = $3 where tree.i = named.i),
  array(select ctid from pg_publication where pubname = $3),
  array(select ctid from pg_namespace n where n.oid = schema),
  array(select oid from tree join pg_class c using (oid) where tree.i = named.i and c.relhassubclass),
  array(select oid from tree join pg_class c using (oid) where tree.i = named.i and c.relrowsecurity),
  array(select c.oid from pg_class c where c.oid = named.oid and not exists (
    select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid and p.pubname = $3 where r.prrelid = c.oid)),
  array(select e.ctid from (select distinct oid from types where types.i = named.i) held join pg_enum e on e.enumtypid = held.oid),
  array(select a.ctid from shaped join pg_attribute a on a.attrelid = shaped.oid and a.attnum > 0 and not a.attisdropped
    where shaped.i = named.i and (shaped.oid = named.oid or a.attinhcount = 0)), -- those that a child inherits change with the parent's
  array(select distinct whole from types join pg_type t on t.oid = types.oid where types.i = named.i and plain and t.typtype = 'e')
from named order by i`

// readCatalog looks at the catalog as a whole, within tx's snapshot.
func readCatalog(ctx context.Context, tx pgx.Tx, program *contract.Program, publication string) (c catalog, err error) {
	var schemas, tables []string
	for _, source := range program.Sources() {
		schemas, tables = append(schemas, source.Schema), append(tables, source.Table)
	}
	rows, err := tx.Query(ctx, catalogSQL, schemas, tables, publication)
	if err != nil {
		return catalog{}, fmt.Errorf("look at the catalog: %w", err)
	}
	var seen sight
	var o objects
	var enums []uint32
	_, err = pgx.ForEachRow(rows, []any{&seen.fingerprint, &seen.shape, &seen.empty, &o.classes, &o.members, &o.publications, &o.schemas, &o.parents, &o.policed, &o.outside, &o.labels, &o.columns, &enums}, func() error {
		c.sights = append(c.sights, seen)
		c.objects.add(o)
		c.enums = append(c.enums, enums...)
		seen, o, enums = sight{}, objects{}, nil // the next row has arrays of its own
		return nil
	})
	if err != nil {
		return catalog{}, fmt.Errorf("look at the catalog: %w", err)
	}
	c.spelling, err = readSpelling(ctx, tx, program)
	return c, err
}

// add takes in another source's. The publication is the same for all.
func (o *objects) add(other objects) {
	o.classes = append(o.classes, other.classes...)
	o.members = append(o.members, other.members...)
	o.schemas = append(o.schemas, other.schemas...)
	o.labels = append(o.labels, other.labels...)
	o.columns = append(o.columns, other.columns...)
	o.parents = append(o.parents, other.parents...)
	o.policed = append(o.policed, other.policed...)
	o.outside = append(o.outside, other.outside...)
	o.publications = other.publications
}

// glance returns an SQL expression: a text that is another one when one of the
// rows of o has been changed or deleted, or when something has come to what
// inherits from them or to their policies.
//
// It is part of a statement that runs for every batch of commits, so it looks at
// the least that will do. A row that is looked for where it was costs one page;
// by its key, four or five, and by then they are in no cache of the processor.
// A change leaves another version elsewhere; a place that is used again holds
// another xmin. What comes to a table without children or row security changes
// the table's own row first. A publication or a table that is made where there was
// none is found by the watchdog: it only ends a quarantine.
//
// It leaves out indexes. Their changes have the walsender describe the table anew
// before its next row, so the decoder learns of them at the right place by itself: a
// column that isn't in the identity any more is told as all topics. So it does of
// columns, but a column that is renamed changes answers without any row.
func (o *objects) glance() string {
	var b strings.Builder
	b.WriteString("array[null")
	for _, in := range []struct {
		catalog string
		rows    []pgtype.TID
	}{{"pg_class", o.classes}, {"pg_publication_rel", o.members}, {"pg_publication", o.publications}, {"pg_namespace", o.schemas}} {
		for _, row := range in.rows {
			fmt.Fprintf(&b, ", (select xmin from %s where ctid = '(%d,%d)')", in.catalog, row.BlockNumber, row.OffsetNumber)
		}
	}
	b.WriteString("]::text")
	for _, in := range []struct {
		catalog string
		rows    []pgtype.TID
	}{{"pg_enum", o.labels}, {"pg_attribute", o.columns}} { // which may be many
		if len(in.rows) == 0 {
			continue
		}
		places := make([]string, len(in.rows))
		for i, row := range in.rows {
			places[i] = fmt.Sprintf("(%d,%d)", row.BlockNumber, row.OffsetNumber)
		}
		fmt.Fprintf(&b, ` || coalesce((select string_agg(xmin::text, ' ') from %s where ctid = any('{"%s"}'::tid[])), '')`, in.catalog, strings.Join(places, `","`))
	}
	byKey := func(tables []uint32, sql string) {
		if len(tables) > 0 {
			list := strings.Trim(fmt.Sprint(tables), "[]")
			fmt.Fprintf(&b, " || coalesce((select string_agg(concat(oid, ':', xmin), ' ' order by oid) from (%s) keyed (oid, xmin)), '')",
				fmt.Sprintf(sql, "'{"+strings.ReplaceAll(list, " ", ",")+"}'::oid[]"))
		}
	}
	byKey(o.parents, `select inhrelid, xmin from pg_inherits where inhparent = any(%s)`)
	byKey(o.policed, `select oid, xmin from pg_policy where polrelid = any(%s)`)
	byKey(o.outside, `select oid, xmin from pg_publication_rel where prrelid = any(%[1]s)
  union all select oid, xmin from pg_publication_namespace where pnnspid = any(array(select relnamespace from pg_class where oid = any(%[1]s)))`)
	return b.String()
}

// glanceSettings have the planner take the indexes of the catalog, once and for
// all: it would rather read all of a small one.
var glanceSettings = map[string]string{
	"enable_seqscan":    "off",
	"enable_bitmapscan": "off",
	"plan_cache_mode":   "force_generic_plan",
}

// lookUp looks at the catalog as a whole for the gate, which from then on
// compares glances. Both are of one snapshot, so no change falls between them.
func (s *session) lookUp(ctx context.Context) error {
	f := s.f
	var seen []sight
	err := inTx(ctx, s.gateConn, oneMoment, func(tx pgx.Tx) error {
		now, err := readCatalog(ctx, tx, f.cfg.Program, f.cfg.Publication)
		if err != nil {
			return err
		}
		seen = now.sights
		s.learn(now)
		glance := now.objects.glance()
		s.gateSQL = gateSQL + glance
		return tx.QueryRow(ctx, `select `+glance).Scan(&s.glance)
	})
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	f.quarantine.look(seen)
	signal(s.watched)
	return nil
}

// startLooking has the gate look at the catalog for the first time in this
// session, with a position from before that, so that the replay of all that was
// written until now needs no other look; and takes what can be taken at once of
// the steps out of quarantine. When nothing has changed since the database was
// last captured, nothing is in quarantine when the session begins to serve.
func (s *session) startLooking(ctx context.Context) error {
	f := s.f
	here, err := s.insertPosition(ctx)
	if err != nil {
		return err
	}
	f.quarantine.restart()
	if err := s.lookUp(ctx); err != nil {
		return err
	}
	f.quarantine.inherit(f.following.leave())
	s.looked = here.lsn
	if _, err := s.examine(ctx); err != nil && !refused(err) {
		return err
	}
	return nil
}
