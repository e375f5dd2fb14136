package adopt

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/contract"
)

// Table is a table of the database that may become a source.
type Table struct {
	Schema, Name string
	Columns      []Column // in the order of the table
	Key          []string // columns of the primary key; nil: there is none
}

// Column is one of its columns.
type Column struct {
	Name string
	Type string // by its name in pg_type, of a domain that of the type below it, of an enum anyenum
	FK   bool   // it is the column of a foreign key of one column
}

// String is the table as the option `table` names it.
func (t *Table) String() string {
	if t.Schema == "public" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// column returns a column by its name; nil: there is none.
func (t *Table) column(name string) *Column {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Columns[i]
}

// named reports whether an option `table` names it.
func (t *Table) named(name string) bool {
	return name == t.String() || name == t.Schema+"."+t.Name
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
func (c *Column) fits() bool { return contract.TypeOID(c.Type) != 0 }

// tablesSQL returns the columns of all tables that somebody has made, partitions aside, in their
// order, with whether each is of the primary key, and whether it is a foreign key by itself.
const tablesSQL = `
select n.nspname, c.relname, a.attname,
  case b.typtype when 'e' then 'anyenum' else b.typname end,
  coalesce(a.attnum = any(p.conkey), false),
  exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f' and f.conkey = array[a.attnum])
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_type b on b.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
left join pg_constraint p on p.conrelid = c.oid and p.contype = 'p'
where c.relkind in ('r', 'p') and not c.relispartition
  and n.nspname not in ('information_schema', 'freshet') and n.nspname !~ '^pg_'
order by n.nspname, c.relname, a.attnum`

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
			schema, name string
			c            Column
			key          bool
		)
		if err := rows.Scan(&schema, &name, &c.Name, &c.Type, &key, &c.FK); err != nil {
			return nil, fmt.Errorf("read the tables: %w", err)
		}
		if n := len(all); n == 0 || all[n-1].Schema != schema || all[n-1].Name != name {
			all = append(all, &Table{Schema: schema, Name: name})
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
