package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// publication is what the catalog says of ours.
type publication struct {
	name       string
	exists     bool
	owned      bool // we may change it, or make it if it doesn't exist
	viaRoot    bool
	everything bool // it publishes INSERT, UPDATE, DELETE and TRUNCATE
}

// CheckSources is the part of Check that is about the publication and each
// source's table and row security, in tx's snapshot.
func CheckSources(ctx context.Context, tx pgx.Tx, program *contract.Program, name string) ([]Problem, error) {
	p := publication{name: name}
	err := tx.QueryRow(ctx, `
select true, pg_has_role(pubowner, 'usage'), pubviaroot, pubinsert and pubupdate and pubdelete and pubtruncate
from pg_publication where pubname = $1`, name).Scan(&p.exists, &p.owned, &p.viaRoot, &p.everything)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `select has_database_privilege(current_database(), 'create')`).Scan(&p.owned)
	}
	if err != nil {
		return nil, fmt.Errorf("check publication: %w", err)
	}
	var problems []Problem
	switch by := p.by(); {
	case !p.exists:
		// Without tables; each is added once its identity fits.
		problems = append(problems, newProblem(fmt.Sprintf("the publication %q is missing: `freshet migrate up`, or the next node that starts, makes it and adds its tables, and nodes that run go on then", name), by,
			"create publication "+quoteIdent(name)+" with (publish_via_partition_root = true);"))
	case !p.viaRoot || !p.everything:
		found, err := p.widen(ctx, tx)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found)
	}
	for _, source := range program.Sources() {
		found, err := p.checkTable(ctx, tx, source)
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].Source = source.String()
		}
		problems = append(problems, found...)
	}
	shared, err := checkShared(ctx, tx, program)
	return append(problems, shared...), err
}

// widen has the publication publish everything, via the partition root, unless
// that would make UPDATE and DELETE fail on one of its tables, which need not be
// ours: with their changes published, each needs an identity that fits, and via
// the root that is the root's column list.
func (p *publication) widen(ctx context.Context, tx pgx.Tx) (Problem, error) {
	rows, err := tx.Query(ctx, `
with recursive tree as (
  select r.prrelid as root, r.prrelid as oid, r.prattrs, r.prqual is not null as filtered
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1
  union all
  select root, i.inhrelid, prattrs, filtered from pg_inherits i join tree on i.inhparent = tree.oid
)
select distinct c.oid::regclass::text from tree join pg_class c using (oid)
where c.relkind = 'r' and (filtered or not case c.relreplident
  when 'f' then prattrs is null and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated <> '')
  else exists (
    select from pg_index x where x.indrelid = c.oid and x.indisunique and x.indimmediate and x.indisvalid and x.indpred is null
      and case c.relreplident when 'd' then x.indisprimary when 'i' then x.indisreplident else false end
      and (prattrs is null or not exists (
        select from pg_attribute a where a.attrelid = c.oid and a.attnum = any((x.indkey::int2[])[0:x.indnkeyatts - 1]) and not exists (
          select from pg_attribute b where b.attrelid = tree.root and b.attnum = any(prattrs) and b.attname = a.attname))))
  end)
union all
select 'all tables of the database, or of a schema' from pg_publication p where p.pubname = $1 and not (p.pubupdate and p.pubdelete)
  and (p.puballtables or exists (select from pg_publication_namespace s where s.pnpubid = p.oid))`, p.name)
	if err != nil {
		return Problem{}, fmt.Errorf("check publication: %w", err)
	}
	unfit, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return Problem{}, fmt.Errorf("check publication: %w", err)
	}
	text := fmt.Sprintf("the publication %q doesn't publish everything via the partition root", p.name)
	if len(unfit) > 0 {
		return Problem{Text: text + ", and if it did, UPDATE and DELETE would fail on " + strings.Join(unfit, ", ") + ": see to their identities first, or have Freshet use a publication of its own"}, nil
	}
	return newProblem(text, p.by(), "alter publication "+quoteIdent(p.name)+" set (publish_via_partition_root = true, publish = 'insert, update, delete, truncate');"), nil
}

// by is who may change the publication, if we may not.
func (p *publication) by() string {
	switch {
	case p.owned:
		return ""
	case p.exists:
		return fmt.Sprintf("the owner of the publication %q", p.name)
	default:
		return "a role that may create in this database"
	}
}

func (p *publication) checkTable(ctx context.Context, tx pgx.Tx, source *contract.Source) ([]Problem, error) {
	t, err := lookUp(ctx, tx, source)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return []Problem{{Text: "the table " + quoteIdent(source.Schema, source.Table) + " doesn't exist: run the migration that creates it"}}, nil
	}
	var problems []Problem
	unfit := t.unfit(p.name)
	if t.kind == "r" || t.kind == "p" { // what is no table is no source, whatever its columns are
		unfit = append(unfit, t.columnProblems(source)...)
	}
	for _, text := range unfit {
		problems = append(problems, Problem{Text: text})
	}
	if len(unfit) > 0 {
		// It isn't to be set up. What breaks the application is told all the same.
		if now := t.in(p.name); t.broken(now) != "" {
			rescue, _ := p.rescue(t, now)
			problems = append(problems, rescue)
		}
		return problems, nil
	}
	problems = append(problems, p.setUp(t, source.Columns())...)
	for i := range problems {
		problems[i].apart = t.apart()
	}
	return problems, nil
}
