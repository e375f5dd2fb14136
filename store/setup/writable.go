package setup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CheckWritable says what makes transactions of the role that config connects as
// read-only, if something does: its writes are refused then. It may go through a
// pooler, and changes config's parameters.
func CheckWritable(ctx context.Context, config *pgx.ConnConfig) ([]Problem, error) {
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler would keep what is prepared
	conn, err := ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has served
	var (
		readOnly, owns, super         bool
		source, role, database, owner string
	)
	err = conn.QueryRow(ctx, `
select s.setting = 'on', s.source, quote_ident(session_user), quote_ident(d.datname), pg_get_userbyid(d.datdba), pg_has_role(d.datdba, 'usage'),
  (select rolsuper from pg_roles where rolname = current_user)
from pg_settings s, pg_database d where s.name = 'default_transaction_read_only' and d.datname = current_database()`).
		Scan(&readOnly, &source, &role, &database, &owner, &owns, &super)
	if err != nil {
		return nil, fmt.Errorf("check default_transaction_read_only: %w", err)
	}
	if !readOnly {
		return nil, nil
	}
	const reset = " reset default_transaction_read_only;"
	var p Problem
	var where, sql string
	switch source {
	case "database":
		where, sql = "the database "+database, "alter database "+database+reset
		if !owns {
			p.By = "the owner of the database (" + owner + ")"
		}
	case "user":
		where, sql = "the role "+role, "alter role "+role+reset
	case "database user":
		where, sql = "the role "+role+" in this database", "alter role "+role+" in database "+database+reset
	case "client":
		where = "this connection (by options in the URL, or PGOPTIONS)"
	default: // a file of the server's, its command line, ALTER ROLE ALL
		where = "the server (" + source + ")"
		p = alterSystem("", super, "alter system set default_transaction_read_only = off;", "select pg_reload_conf();")
	}
	if sql != "" {
		p.SQL = []string{"begin read write;", sql, "commit;"} // by itself it would be refused as well
	}
	p.Text = "writes as the role " + role + " are refused: default_transaction_read_only is on for " + where +
		"; connections that are open keep what a role or a database has set: restart nodes after the change"
	return []Problem{p}, nil
}
