package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// catalog is what the catalog says of the sources at one moment.
type catalog struct {
	fingerprints []string // one per source, in the program's order
	objects      objects
}

// objects are what a glance looks at.
type objects struct {
	relations   []uint32 // the sources' tables with all that inherits from them
	schemas     []uint32 // that they are found in by name
	publication uint32   // 0: there is none
}

// catalogSQL sums up, for each source, what the catalog says of its table, the
// tables that inherit from it, its policies and its place in the publication. Any
// change of a row of the catalog gives it another xmin, even one that is taken
// back by the next statement, and a rewrite, a truncation or another persistence
// are changes of the row in pg_class. (VACUUM and ANALYZE change rows in place,
// and freezing keeps xmin.)
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
), parts (i, part) as (
  select i, 'n' || n.oid || ':' || n.xmin from named join pg_namespace n on n.oid = schema
  union all select i, 'c' || c.oid || ':' || c.xmin from tree join pg_class c using (oid)
  union all select i, 'h' || h.inhrelid || ':' || h.xmin from tree join pg_inherits h on h.inhparent = tree.oid
  union all select i, 'x' || x.indexrelid || ':' || x.xmin from tree join pg_index x on x.indrelid = tree.oid
  union all select i, 'a' || a.attrelid || '.' || a.attnum || ':' || a.xmin from tree join pg_attribute a on a.attrelid = tree.oid and a.attnum > 0
  union all select i, 's' || s.oid || ':' || s.xmin from tree join pg_policy s on s.polrelid = tree.oid
  union all select i, 'p' || p.oid || ':' || p.xmin from named, pg_publication p where p.pubname = $3
  union all select i, 'm' || m.oid || ':' || m.xmin from named, pg_publication_namespace m
    join pg_publication p on p.oid = m.pnpubid and p.pubname = $3
  union all select i, 'r' || r.oid || ':' || r.xmin from tree join pg_publication_rel r on r.prrelid = tree.oid
    join pg_publication p on p.oid = r.prpubid and p.pubname = $3
)
select coalesce((select md5(string_agg(part, ' ' order by part)) from parts where parts.i = named.i), 'none'),
  array(select oid from tree where tree.i = named.i), coalesce(schema, 0),
  coalesce((select oid from pg_publication where pubname = $3), 0)
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
	var (
		fingerprint string
		relations   []uint32
		schema      uint32
	)
	_, err = pgx.ForEachRow(rows, []any{&fingerprint, &relations, &schema, &c.objects.publication}, func() error {
		c.fingerprints = append(c.fingerprints, fingerprint)
		c.objects.relations = append(c.objects.relations, relations...)
		c.objects.schemas = append(c.objects.schemas, schema)
		return nil
	})
	if err != nil {
		return catalog{}, fmt.Errorf("look at the catalog: %w", err)
	}
	return c, nil
}

// glanceSQL is a number that is another one when something of objects ($1
// relations, $2 schemas, $3 publication) has changed, or come or gone among what
// inherits from them. It is part of a statement that runs for every batch of
// commits, so it looks at the least that will do.
//
// It leaves out columns and indexes. Their changes have the walsender describe
// the table anew before its next row, so the decoder learns of them at the right
// place by itself: a column that is missing, of another type, or not in the
// identity any more, is told as all topics. All the rest would go unseen.
const glanceSQL = `(select coalesce(bit_xor(hashtextextended(version, oid)), 0) from (
  select c.xmin::text, c.oid::bigint from pg_class c where c.oid = any($1)
  union all select h.xmin::text, h.inhrelid::bigint from pg_inherits h where h.inhparent = any($1)
  union all select s.xmin::text, s.oid::bigint from pg_policy s where s.polrelid = any($1)
  union all select r.xmin::text, r.oid::bigint from pg_publication_rel r where r.prpubid = $3 and r.prrelid = any($1)
  union all select m.xmin::text, m.oid::bigint from pg_publication_namespace m where m.pnpubid = $3 and m.pnnspid = any($2)
  union all select p.xmin::text, p.oid::bigint from pg_publication p where p.oid = $3
  union all select n.xmin::text, n.oid::bigint from pg_namespace n where n.oid = any($2)
) entries (version, oid))`

// glanceSettings have the planner take the indexes of the catalog, once and for
// all: it would rather read all of a small one.
var glanceSettings = map[string]string{
	"enable_seqscan":    "off",
	"enable_bitmapscan": "off",
	"jit":               "off",
	"plan_cache_mode":   "force_generic_plan",
}

// lookUp looks at the catalog as a whole for the gate, which from then on
// compares glances. Both are of one snapshot, so no change falls between them.
func (s *session) lookUp(ctx context.Context) error {
	f := s.f
	err := inTx(ctx, s.gateConn, oneMoment, func(tx pgx.Tx) error {
		now, err := readCatalog(ctx, tx, f.cfg.Program, f.cfg.Publication)
		if err != nil {
			return err
		}
		s.catalog = now
		return tx.QueryRow(ctx, `select `+glanceSQL, now.objects.relations, now.objects.schemas, now.objects.publication).Scan(&s.glance)
	})
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	f.quarantine.look(s.catalog.fingerprints)
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
	s.looked = here.lsn
	if _, err := s.examine(ctx); err != nil && !refused(err) {
		return err
	}
	return nil
}
