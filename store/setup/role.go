package setup

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// privileges are what capture does with the tables of schema freshet. A table
// that a migration adds has a line here; TestCheck_F71_leastRole runs capture
// with these and nothing more.
var privileges = []struct{ table, needs string }{
	{"incarnation", "select, insert, update"},
	{"epoch", "select, insert, update"},
	{"fingerprint", "select, insert, update, delete"},
}

// functions are those that capture calls, and that an administrator may have
// taken from PUBLIC.
const functions = `{pg_logical_emit_message,pg_current_wal_insert_lsn,pg_current_wal_flush_lsn,pg_current_snapshot,pg_current_xact_id,pg_postmaster_start_time,
  pg_copy_logical_replication_slot,pg_replication_slot_advance,pg_drop_replication_slot,pg_try_advisory_lock,pg_try_advisory_lock_shared,pg_advisory_unlock,pg_advisory_unlock_shared}`

// checkPrivileges checks that schema freshet is there, and that the role may do
// in it what capture does: all of it at once, so that one GRANT isn't followed by
// the error that asks for the next.
func checkPrivileges(ctx context.Context, tx pgx.Tx) ([]Problem, error) {
	var (
		role           string
		usage          bool
		owner, missing *string
		lacking        []string // grants, in SQL
	)
	tables, needs := make([]string, len(privileges)), make([]string, len(privileges))
	for i, p := range privileges {
		tables[i], needs[i] = p.table, p.needs
	}
	// has_table_privilege takes a list for any of its elements.
	err := tx.QueryRow(ctx, `
select quote_ident(current_user), coalesce(has_schema_privilege(n.oid, 'usage'), false),
  case when not pg_has_role(n.nspowner, 'usage') then pg_get_userbyid(n.nspowner) end,
  (select string_agg(w.name, ', ') from unnest($1::text[]) w (name) where not exists (
    select from pg_class c where c.relnamespace = n.oid and c.relname = w.name)),
  array(select format('grant %s on freshet.%I to %I;', w.needs, w.name, current_user)
    from unnest($1::text[], $2::text[]) with ordinality w (name, needs, place) join pg_class c on c.relnamespace = n.oid and c.relname = w.name
    where exists (select from string_to_table(w.needs, ', ') p where not has_table_privilege(c.oid, p)) order by w.place)
from (select) one left join pg_namespace n on n.nspname = 'freshet'`, tables, needs).
		Scan(&role, &usage, &owner, &missing, &lacking)
	if err != nil {
		return nil, err
	}
	if missing != nil {
		return []Problem{{Text: "the schema freshet is missing or incomplete (" + *missing + "): run `freshet migrate up`"}}, nil
	}
	if !usage {
		lacking = append([]string{"grant usage on schema freshet to " + role + ";"}, lacking...)
	}
	var problems []Problem
	if len(lacking) > 0 {
		p := Problem{Text: "the role " + role + " may not do all that capture does in the schema freshet", SQL: lacking}
		if owner != nil {
			p.By = "the owner of the schema freshet (" + *owner + ")"
		} else {
			p.mend, p.asked = lacking, true
		}
		problems = append(problems, p)
	}
	rows, err := tx.Query(ctx, `
select format('grant execute on function %s to %I;', p.oid::regprocedure, current_user)
from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = any($1::text[]) and not has_function_privilege(p.oid, 'execute')`, functions)
	if err != nil {
		return nil, err
	}
	if lacking, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, err
	}
	if len(lacking) > 0 {
		problems = append(problems, Problem{Text: "the role " + role + " may not call all the functions that capture calls", SQL: lacking, By: superuser})
	}
	return problems, nil
}

// checkReplication finds out whether the role may replicate. A role that has the
// attribute may; one that hasn't may all the same at providers that hand it out
// by membership (Amazon's rds_replication), so the server is asked: for a
// walsender, and for the right to handle slots. Both change nothing.
func checkReplication(ctx context.Context, conn *pgx.Conn) ([]Problem, error) {
	var (
		may             bool
		role, grant, by string
	)
	// The walsender is the session's role's, slots are the current one's.
	err := conn.QueryRow(ctx, `
select quote_ident(current_user),
  (select bool_and(rolsuper or rolreplication) from pg_roles where rolname in (current_user, session_user)),
  case when to_regrole('rds_replication') is not null then 'grant rds_replication to ' || quote_ident(current_user)
    else 'alter role ' || quote_ident(current_user) || ' with replication' end || ';',
  case when to_regrole('rds_replication') is not null then 'a member of rds_superuser'
    when to_regrole('cloudsqlsuperuser') is not null then 'a member of cloudsqlsuperuser'
    when to_regrole('azure_pg_admin') is not null then 'a member of azure_pg_admin'
    else $1 end`, superuser).Scan(&role, &may, &grant, &by)
	if err != nil {
		return nil, fmt.Errorf("check the role: %w", err)
	}
	if may || tryReplication(ctx, conn) {
		return nil, nil
	}
	return []Problem{{Text: "the role " + role + " may not replicate", SQL: []string{grant}, By: by}}, nil
}

// tryReplication asks the server by trying. What fails for another reason than a
// lack of rights (all walsenders are taken, say) shows elsewhere.
func tryReplication(ctx context.Context, conn *pgx.Conn) bool {
	// Rights are looked at before the name, which no slot can have.
	_, err := conn.Exec(ctx, `select pg_drop_replication_slot('freshet?')`)
	if SQLState(err) == codeInsufficientPrivilege {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config := conn.Config().Config // a copy
	config.RuntimeParams["replication"] = "database"
	sender, err := pgconn.ConnectConfig(ctx, &config)
	if err != nil {
		return SQLState(err) != codeInsufficientPrivilege
	}
	_ = sender.Close(ctx) // it has served
	return true
}
