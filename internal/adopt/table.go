package adopt

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/contract"
)

// Table is a table of the database, or a materialized view, that may become a source.
type Table struct {
	Schema, Name string
	View         bool     // it is a materialized view: whoever refreshes it tells its topics
	Columns      []Column // in the order of the table
	Key          []string // columns of the primary key; nil: there is none
	Refused      string   // why no source can have it, and what to do; empty: one can
}

// Column is one of its columns.
type Column struct {
	Name     string
	Type     string // by its name in pg_type, of a domain that of the type below it
	Enum     bool   // which is an enum
	Nullable bool   // it may be NULL
	FK       bool   // it is the column of a foreign key of one column
	Made     made   // by the database; empty: its values come with the row
}

// made is how the database makes the values of a column.
type made string

const (
	byIdentity made = "identity"
	bySerial   made = "serial"
	byDefault  made = "default"   // of a column of the key
	generated  made = "generated" // of other columns of the row
)

// records are the tables in which tools keep which migrations have run. Those with a name
// that a service may give a table of its own, as TypeORM's migrations, aren't among them.
var records = []string{
	"schema_migrations", "schema_lock", "ar_internal_metadata", // golang-migrate, dbmate, Rails, Ecto
	"goose_db_version",
	"flyway_schema_history",
	"databasechangelog", "databasechangeloglock", // Liquibase
	"atlas_schema_revisions",
	"schema_version",  // tern
	"gorp_migrations", // sql-migrate
	"bun_migrations", "bun_migration_locks",
	"river_migration",
	"_prisma_migrations",
	"knex_migrations", "knex_migrations_lock",
	"SequelizeMeta",
	"kysely_migration", "kysely_migration_lock",
	"__drizzle_migrations",
	"mikro_orm_migrations",
	"pgmigrations", // node-pg-migrate
	"alembic_version",
	"django_migrations",
	"_sqlx_migrations",
	"__diesel_schema_migrations",
	"seaql_migrations",
	"refinery_schema_history",
	"__EFMigrationsHistory",
}

// isRecord reports whether the table is a migration tool's.
func (t *Table) isRecord() bool { return slices.Contains(records, t.Name) }

// String is the table as the option `table` names it.
func (t *Table) String() string {
	if t.Schema == "public" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// word is the table as topics name it. What is below freshet/ is the server's own.
func (t *Table) word() string {
	word := snake(t.Name)
	if word == "freshet" {
		return plural(word)
	}
	return word
}

// of reports whether the table is named like a noun, in the singular or the plural.
func (t *Table) of(noun string) bool { return same(t.Name, noun) || same(t.Name, plural(noun)) }

// column returns a column by its name, or by one that is the same but for case and what
// parts words; nil: there is none.
func (t *Table) column(name string) *Column {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		i = slices.IndexFunc(t.Columns, func(c Column) bool { return same(c.Name, name) })
	}
	if i < 0 {
		return nil
	}
	return &t.Columns[i]
}

// named reports whether an option `table` names it.
func (t *Table) named(name string) bool {
	return isTableName(t.Schema) && isTableName(t.Name) && (name == t.String() || name == t.Schema+"."+t.Name)
}

// common returns the fields of a message that are columns.
func (t *Table) common(md protoreflect.MessageDescriptor) (names []string) {
	for i := range md.Fields().Len() {
		if f := string(md.Fields().Get(i).Name()); t.column(f) != nil {
			names = append(names, f)
		}
	}
	return names
}

// fits reports whether a template may take the column.
func (c *Column) fits() bool {
	return isName(c.Name) && c.Made != generated && (c.Enum || contract.TypeOID(c.Type) != 0)
}

// isText reports whether any text is a value of the column.
func (c *Column) isText() bool { return c.Type == "text" || c.Type == "varchar" }

// fit reports whether a template may take all of the columns.
func (t *Table) fit(columns []string) bool {
	return !slices.ContainsFunc(columns, func(name string) bool { return !t.column(name).fits() })
}

// tablesSQL returns the columns of all tables and materialized views, partitions aside, in their
// order, with whether each may be NULL, whether it is of the primary key, and whether it is a foreign
// key by itself; and of the table whether it is unlogged, and which of the tables below it has
// changes that are never told under its name.
const tablesSQL = `
with recursive tree (root, oid) as (
  select inhparent, inhrelid from pg_inherits
  union all
  select tree.root, i.inhrelid from tree join pg_inherits i on i.inhparent = tree.oid
), untold as (
  select distinct on (root) root, oid::regclass::text as name, case when not relispartition then 'child' when relkind = 'f' then 'foreign' else 'unlogged' end as kind
  from tree join pg_class using (oid)
  where not relispartition or relkind = 'f' or relpersistence <> 'p'
  order by root, oid
)
select n.nspname, c.relname, c.relkind = 'm', c.relpersistence = 'u', coalesce(u.kind, ''), coalesce(u.name, ''), a.attname,
  b.typname, b.typtype = 'e', not (a.attnotnull or t.typnotnull),
  case when a.attgenerated <> '' then 'generated' when a.attidentity <> '' then 'identity' when pg_get_expr(d.adbin, d.adrelid) like 'nextval(%' then 'serial'
    when d.adbin is not null and a.attnum = any(p.conkey) then 'default' else '' end,
  coalesce(a.attnum = any(p.conkey), false),
  exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f' and f.conkey = array[a.attnum])
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_type b on b.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
left join pg_constraint p on p.conrelid = c.oid and p.contype = 'p'
left join untold u on u.root = c.oid
where c.relkind in ('r', 'p', 'm') and not c.relispartition
  and n.nspname not in ('information_schema', 'freshet') and n.nspname !~ '^pg_'
order by n.nspname, c.relname, a.attnum`

// refusal says why no source can have a table, as `freshet lint` and `freshet doctor` would;
// empty: one can. Untold, of a kind, is a table below it, if that is why.
func refusal(schema, name string, unlogged bool, kind, untold string) string {
	switch {
	case !isTableName(schema) || !isTableName(name):
		return "its name, or its schema's, has a dot or a quote in it, or a blank at an end, which no source can say: rename it, and let a view have the old name for whoever uses that (docs/lint/table-name.md)"
	case unlogged:
		return "it is unlogged, so its changes aren't in the WAL: ALTER TABLE … SET LOGGED makes it an ordinary one, and rewrites it under a lock"
	case kind == "child":
		return fmt.Sprintf("%s inherits from it: reads show its rows, and their changes are never told. Make that a partition, or end the inheritance (ALTER TABLE … NO INHERIT)", untold)
	case kind == "foreign":
		return fmt.Sprintf("its partition %s is a foreign table: reads show its rows, and their changes are never told. Detach it", untold)
	case kind == "unlogged":
		return fmt.Sprintf("its partition %s is unlogged, so its changes aren't in the WAL: ALTER TABLE … SET LOGGED makes that an ordinary one, and rewrites it under a lock", untold)
	default:
		return ""
	}
}

// Tables reads the tables of a database.
func Tables(ctx context.Context, conn *pgx.Conn) ([]*Table, error) {
	rows, err := conn.Query(ctx, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	defer rows.Close()
	var all []*Table
	for rows.Next() {
		var (
			schema, name   string
			view, unlogged bool
			kind, untold   string
			c              Column
			key            bool
		)
		if err := rows.Scan(&schema, &name, &view, &unlogged, &kind, &untold, &c.Name, &c.Type, &c.Enum, &c.Nullable, &c.Made, &key, &c.FK); err != nil {
			return nil, fmt.Errorf("read the tables: %w", err)
		}
		if n := len(all); n == 0 || all[n-1].Schema != schema || all[n-1].Name != name {
			all = append(all, &Table{Schema: schema, Name: name, View: view, Refused: refusal(schema, name, unlogged, kind, untold)})
		}
		t := all[len(all)-1]
		t.Columns = append(t.Columns, c)
		if key {
			t.Key = append(t.Key, c.Name)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	return all, nil
}
