package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// CheckPolicies looks at the sources' row security as the services' role, which config
// connects as, meets it. What it finds is a problem for a read that is `shared`: one
// answer would be given to all, whoever may see what; and a warning for a table whose
// policies don't bind that role. It may go through a pooler, and changes config's
// parameters.
func CheckPolicies(ctx context.Context, config *pgx.ConnConfig, program *contract.Program) (problems []Problem, err error) {
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler would keep what is prepared
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if problems, err = checkShared(ctx, tx, program); err != nil {
			return err
		}
		unbound, err := checkBound(ctx, tx, program)
		problems = append(problems, unbound...)
		return err
	})
	return problems, err
}

// checkShared finds the `shared` reads of tables that have row security. A table's
// partitions and children count as it does: somebody may read them by their names.
// (Through a view too it is the table that has policies.)
func checkShared(ctx context.Context, tx pgx.Tx, program *contract.Program) ([]Problem, error) {
	readers := make(map[string][]string) // the shared reads of a source
	var schemas, tables []string
	for _, source := range program.Sources() {
		if shared := sharedReads(program, source); len(shared) > 0 {
			readers[source.String()] = shared
			schemas, tables = append(schemas, source.Schema), append(tables, source.Table)
		}
	}
	rows, err := tx.Query(ctx, `
with recursive tree (source, oid) as (
  select n.nspname || '.' || c.relname, c.oid
  from unnest($1::text[], $2::text[]) as s (nspname, relname) join pg_namespace n using (nspname)
  join pg_class c on c.relnamespace = n.oid and c.relname = s.relname
  union
  select t.source, i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid
)
select t.source, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
from tree t join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace
where c.relrowsecurity order by 1, 2`, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("check row security: %w", err)
	}
	var problems []Problem
	var source, table string
	_, err = pgx.ForEachRow(rows, []any{&source, &table}, func() error {
		problems = append(problems, Problem{Source: source, Text: fmt.Sprintf(
			"the table %s has row security, and %s of it would give one answer to all, whoever may see what: take `shared: true` out of the option (freshet.v1.reads), or the row security off the table",
			table, listed(readers[source]))})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check row security: %w", err)
	}
	return problems, nil
}

// sharedReads are the procedures whose `shared` answers a source may be part of.
func sharedReads(program *contract.Program, source *contract.Source) (procedures []string) {
	for _, m := range program.Methods() {
		if m.Kind == contract.Read && m.Shared && slices.Contains(m.Sources(), source) {
			procedures = append(procedures, m.Procedure)
		}
	}
	return procedures
}

// listed names shared reads in a sentence.
func listed(procedures []string) string {
	if len(procedures) == 1 {
		return "the shared read " + procedures[0]
	}
	return "the shared reads " + strings.Join(procedures, ", ")
}

// checkBound finds the sources whose policies the current role goes past.
func checkBound(ctx context.Context, tx pgx.Tx, program *contract.Program) ([]Problem, error) {
	var schemas, tables []string
	for _, source := range program.Sources() {
		schemas, tables = append(schemas, source.Schema), append(tables, source.Table)
	}
	rows, err := tx.Query(ctx, `
select n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(r.rolname),
  case when r.rolsuper then 'it is a superuser' when r.rolbypassrls then 'it has BYPASSRLS' else 'it owns the table' end
from unnest($1::text[], $2::text[]) as s (nspname, relname) join pg_namespace n using (nspname)
join pg_class c on c.relnamespace = n.oid and c.relname = s.relname
cross join pg_roles r
where r.rolname = current_user and c.relrowsecurity and not row_security_active(c.oid) order by 1`, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("check row security: %w", err)
	}
	var problems []Problem
	var source, table, role, why string
	_, err = pgx.ForEachRow(rows, []any{&source, &table, &role, &why}, func() error {
		text := fmt.Sprintf("the table %s has row security, which doesn't bind the role %s (%s): calls that run as it see all rows. Connect the services as another role", table, role, why)
		if why == "it owns the table" {
			text += ", or ALTER TABLE … FORCE ROW LEVEL SECURITY"
		}
		problems = append(problems, Problem{Source: source, Warning: true, Text: text})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check row security: %w", err)
	}
	return problems, nil
}
