package setup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/contract"
)

// Roles names the roles of a database in which nobody may more than their part takes.
type Roles struct {
	// Owner sets up: migrations, publication, identities.
	Owner string
	// Capture follows the database, and reads no table of the application.
	Capture string
	// App is whom the services connect as. It doesn't replicate.
	App string
	// Callers are the roles that App takes, one at a time, for those who call (see
	// server.Config.DBRoleClaim). It has none of their rights by itself. Nil: App
	// reads and writes the sources itself.
	Callers []string
	// Replicas says that App reads on standbys, too: it is to see which timeline they
	// follow.
	Replicas bool
}

// Grants are statements that one role is to run.
type Grants struct {
	By  string
	SQL []string
}

// GrantsFor returns what roles lack for their parts, in the order in which it is to be
// run, and what can't be granted yet or has to be decided, in words. It changes nothing.
// Tables that don't exist yet are left out: once Owner has migrated, ask again.
func GrantsFor(ctx context.Context, conn *pgx.Conn, program *contract.Program, publication string, roles Roles) (grants []Grants, notes []string, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		g := &granting{ctx: ctx, tx: tx, roles: roles, program: program, publication: publication}
		if err := g.look(); err != nil {
			return err
		}
		for _, step := range []func() error{g.makeRoles, g.makeRoom, g.grantCapture, g.grantSources} {
			if err := step(); err != nil {
				return err
			}
		}
		grants, notes = g.grants, g.notes
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look at the roles: %w", err)
	}
	return grants, notes, nil
}

// granting is one call of GrantsFor.
type granting struct {
	ctx         context.Context
	tx          pgx.Tx
	roles       Roles
	program     *contract.Program
	publication string

	known    map[string]attributes
	version  int
	database string
	rds      bool   // replication is granted by a role
	freshet  string // the owner of that schema; empty: it isn't there
	migrated bool   // it has its tables

	grants []Grants
	notes  []string
}

// attributes are a role's.
type attributes struct{ Login, Super, Replication, Bypass, Inherit bool }

func (g *granting) look() error {
	err := g.tx.QueryRow(g.ctx, `
select current_setting('server_version_num')::int, current_database(), to_regrole('rds_replication') is not null,
  coalesce((select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'freshet'), ''), coalesce(bool_and(to_regclass('freshet.' || t) is not null), false)
from unnest($1::text[]) t`, tablesOf(privileges)).Scan(&g.version, &g.database, &g.rds, &g.freshet, &g.migrated)
	if err != nil {
		return err
	}
	rows, err := g.tx.Query(g.ctx, `select rolname, rolcanlogin, rolsuper, rolreplication, rolbypassrls, rolinherit from pg_roles`)
	if err != nil {
		return err
	}
	g.known = make(map[string]attributes)
	var name string
	var a attributes
	_, err = pgx.ForEachRow(rows, []any{&name, &a.Login, &a.Super, &a.Replication, &a.Bypass, &a.Inherit}, func() error {
		g.known[name] = a
		return nil
	})
	return err
}

// add has by run statements, after those before.
func (g *granting) add(by string, sql ...string) {
	if n := len(g.grants); n > 0 && g.grants[n-1].By == by {
		g.grants[n-1].SQL = append(g.grants[n-1].SQL, sql...)
		return
	}
	g.grants = append(g.grants, Grants{by, sql})
}

func (g *granting) notef(format string, args ...any) {
	g.notes = append(g.notes, fmt.Sprintf(format, args...))
}

// has asks for something about a role, $1, which has nothing if it isn't there. What a
// superuser has isn't granted.
func (g *granting) has(role, question string, args ...any) (has bool, err error) {
	if a, ok := g.known[role]; !ok || a.Super { // which it won't be much longer
		return false, nil
	}
	return has, g.tx.QueryRow(g.ctx, "select coalesce(("+question+"), false)", append([]any{role}, args...)...).Scan(&has)
}

// want adds a statement unless what it grants is there.
func (g *granting) want(by, sql, role, question string, args ...any) error {
	has, err := g.has(role, question, args...)
	if err == nil && !has {
		g.add(by, sql)
	}
	return err
}

// makeRoles makes the roles, and takes from those that are there what goes past
// policies and rights.
func (g *granting) makeRoles() error {
	r := g.roles
	for _, role := range append([]string{r.Owner, r.Capture, r.App}, r.Callers...) {
		a, there := g.known[role]
		caller := role != r.Owner && role != r.Capture && role != r.App
		switch {
		case !there && caller:
			g.add(superuser, "create role "+quoteIdent(role)+" nologin;")
		case !there:
			g.add(superuser, "create role "+quoteIdent(role)+" login;")
			g.notef("the role %s is to have a password, or another way to log in: \\password %s in psql", quoteIdent(role), quoteIdent(role))
		case !a.Login && !caller:
			g.add(superuser, "alter role "+quoteIdent(role)+" with login;")
		}
		if a.Super {
			g.add(superuser, "alter role "+quoteIdent(role)+" with nosuperuser;")
		}
		if a.Bypass {
			g.add(superuser, "alter role "+quoteIdent(role)+" with nobypassrls;")
		}
		if a.Replication && role != r.Capture && role != r.Owner {
			g.add(superuser, "alter role "+quoteIdent(role)+" with noreplication;")
		}
	}
	if err := g.grantReplication(); err != nil {
		return err
	}
	if err := g.grantReplicas(); err != nil {
		return err
	}
	return g.grantCallers()
}

func (g *granting) grantReplication() error {
	capture := g.roles.Capture
	if g.rds {
		return g.want(superuser, "grant rds_replication to "+quoteIdent(capture)+";", capture, "pg_has_role($1, 'rds_replication', 'member')")
	}
	if !g.known[capture].Replication {
		g.add(superuser, "alter role "+quoteIdent(capture)+" with replication;")
	}
	return nil
}

// grantReplicas lets App take the role that sees which timeline a standby follows (see
// docs/decisions/0021), without having its rights where Postgres can tell the two apart.
func (g *granting) grantReplicas() error {
	if !g.roles.Replicas {
		return nil
	}
	with, question := ";", "pg_has_role($1, 'pg_read_all_stats', 'member')"
	if g.version >= 160000 {
		with, question = " with inherit false, set true;", "pg_has_role($1, 'pg_read_all_stats', 'set')"
	}
	app := g.roles.App
	return g.want(superuser, "grant pg_read_all_stats to "+quoteIdent(app)+with, app, question)
}

// grantCallers lets App take the callers' roles without having their rights.
func (g *granting) grantCallers() error {
	app, with := g.roles.App, ";"
	if len(g.roles.Callers) == 0 {
		return nil
	}
	if g.version >= 160000 {
		with = " with inherit false, set true;"
	} else if _, there := g.known[app]; !there || g.known[app].Inherit {
		// Before PostgreSQL 16 it is the member that inherits or doesn't, all or nothing.
		g.add(superuser, "alter role "+quoteIdent(app)+" with noinherit;")
	}
	for _, caller := range g.roles.Callers {
		question := "pg_has_role($1, oid, 'member') and not pg_has_role($1, oid, 'usage') from pg_roles where rolname = $2"
		if g.version < 160000 { // the attribute has been seen to
			question = "pg_has_role($1, oid, 'member') from pg_roles where rolname = $2"
		}
		if err := g.want(superuser, "grant "+quoteIdent(caller)+" to "+quoteIdent(app)+with, app, "select "+question, caller); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom lets Owner make what it is to make: the schema freshet, the publication,
// tables that aren't there.
func (g *granting) makeRoom() error {
	owner := g.roles.Owner
	if g.freshet == "" {
		// Who isn't a superuser has to be a member of the role that a schema is made for.
		g.add(superuser, "grant "+quoteIdent(owner)+" to current_user;",
			"create schema freshet authorization "+quoteIdent(owner)+";",
			"revoke "+quoteIdent(owner)+" from current_user;")
	} else if owns, err := g.has(owner, "pg_has_role($1, $2, 'usage')", g.freshet); err != nil {
		return err
	} else if !owns {
		g.notef("the schema freshet belongs to %s, which therefore is to migrate: give it as the owner (--owner-role)", quoteIdent(g.freshet))
	}
	var published bool
	if err := g.tx.QueryRow(g.ctx, "select exists (select from pg_publication where pubname = $1)", g.publication).Scan(&published); err != nil {
		return err
	}
	if !published {
		if err := g.want(superuser, "grant create on database "+quoteIdent(g.database)+" to "+quoteIdent(owner)+";", owner, "has_database_privilege($1, current_database(), 'create')"); err != nil {
			return err
		}
		g.notef("CREATE on the database is for the publication %s alone: once `freshet migrate up` has made it, it can be taken back (revoke create on database %s from %s;)", quoteIdent(g.publication), quoteIdent(g.database), quoteIdent(owner))
	}
	return nil
}

// grantCapture lets Capture keep its books.
func (g *granting) grantCapture() error {
	capture, by := g.roles.Capture, g.freshet
	if !g.migrated {
		g.notef("the schema freshet is empty: run `freshet migrate up` as %s, and then this again", quoteIdent(g.roles.Owner))
		return nil
	}
	if err := g.want(by, "grant usage on schema freshet to "+quoteIdent(capture)+";", capture, "has_schema_privilege($1, 'freshet', 'usage')"); err != nil {
		return err
	}
	for _, p := range privileges {
		if err := g.wantOn(by, p.needs, "freshet", p.table, capture); err != nil {
			return err
		}
	}
	return nil
}

// wantOn adds a grant of privileges on a table, unless the role has all of them.
func (g *granting) wantOn(by, needs, schema, table, role string) error {
	name := quoteIdent(schema, table)
	return g.want(by, "grant "+needs+" on "+name+" to "+quoteIdent(role)+";", role,
		"select bool_and(has_table_privilege($1, $2, p)) from string_to_table($3, ', ') p", name, needs)
}

func tablesOf(list []struct{ table, needs string }) (tables []string) {
	for _, p := range list {
		tables = append(tables, p.table)
	}
	return tables
}
