package setup

import (
	"github.com/freshet-dev/freshet/contract"
)

// all is what the services do with the rows of a source.
const all = "select, insert, update, delete"

// grantSources lets who reads and writes the sources do so: App, or the callers that it
// stands in for. It then reads by itself what `shared` reads need.
func (g *granting) grantSources() error {
	r := g.roles
	for _, source := range g.program.Sources() {
		var schema, there bool
		var owner string
		err := g.tx.QueryRow(g.ctx, `
select to_regnamespace(quote_ident($1)) is not null, c.oid is not null, coalesce(pg_get_userbyid(c.relowner), '')
from (select) one left join pg_class c on c.oid = to_regclass(quote_ident($1) || '.' || quote_ident($2))`, source.Schema, source.Table).Scan(&schema, &there, &owner)
		if err != nil {
			return err
		}
		name := quoteIdent(source.Schema, source.Table)
		if !there {
			g.notef("the table %s isn't there yet: run its migration, and then this again", name)
			if schema {
				sql := "grant usage, create on schema " + quoteIdent(source.Schema) + " to " + quoteIdent(r.Owner) + ";"
				if err := g.want(superuser, sql, r.Owner, "has_schema_privilege($1, $2, 'usage') and has_schema_privilege($1, $2, 'create')", source.Schema); err != nil {
					return err
				}
			}
			continue
		}
		owned, err := g.has(r.Owner, "pg_has_role($1, $2, 'usage')", owner)
		if err != nil {
			return err
		}
		if !owned {
			g.notef("the table %s belongs to %s: publication and identity are that role's. Give it as the owner (--owner-role), or hand it what `freshet doctor` prints for the table", name, quoteIdent(owner))
		}
		if err := g.grantSource(source, owner); err != nil {
			return err
		}
	}
	return nil
}

// grantSource is about one table, which is there.
func (g *granting) grantSource(source *contract.Source, owner string) error {
	type right struct{ role, needs string }
	rights := []right{{g.roles.App, all}}
	if len(g.roles.Callers) > 0 {
		rights = rights[:0]
		if len(sharedReads(g.program, source)) > 0 {
			rights = append(rights, right{g.roles.App, "select"})
		}
		for _, caller := range g.roles.Callers {
			rights = append(rights, right{caller, all})
		}
	}
	// App too, whatever it may read: statements are parsed as the connection's role.
	schema, names := quoteIdent(source.Schema), append([]string{g.roles.App}, g.roles.Callers...)
	for _, role := range names {
		if err := g.want(owner, "grant usage on schema "+schema+" to "+quoteIdent(role)+";", role, "has_schema_privilege($1, $2, 'usage')", source.Schema); err != nil {
			return err
		}
	}
	for _, right := range rights {
		if err := g.wantOn(owner, right.needs, source.Schema, source.Table, right.role); err != nil {
			return err
		}
		if right.needs == all {
			if err := g.grantSequences(source, owner, right.role); err != nil {
				return err
			}
		}
	}
	return nil
}

// grantSequences is for columns that are `serial`. (Those of identities need nothing.)
func (g *granting) grantSequences(source *contract.Source, owner, role string) error {
	var names []string
	err := g.tx.QueryRow(g.ctx, `
select array(select d.objid::regclass::text from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
  where d.refobjid = to_regclass(quote_ident($1) || '.' || quote_ident($2)) and d.deptype = 'a' and d.classid = 'pg_class'::regclass order by 1)`,
		source.Schema, source.Table).Scan(&names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := g.want(owner, "grant usage on sequence "+name+" to "+quoteIdent(role)+";", role, "has_sequence_privilege($1, $2, 'usage')", name); err != nil {
			return err
		}
	}
	return nil
}
