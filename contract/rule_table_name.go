package contract

import (
	"fmt"
	"strings"
	"unicode"
)

// tableName: a source names a table, `name` or `schema.name`, as Postgres'
// catalogue has it: in its true case, and without the quotes that SQL would need.
var tableName = rule{"table-name", func(s *schema, report report) {
	for _, d := range s.sources {
		if d.option == nil {
			continue
		}
		if _, _, reason := splitTable(d.option.GetTable()); reason != "" {
			report(&d.element, append(d.atOption(), tableField), "source table %q: %s", d.option.GetTable(), reason)
		}
	}
}}

// tableField is the number of Source.table.
const tableField = 1

// splitTable splits a table's name; a name without a schema is in public.
func splitTable(name string) (schema, table, reason string) {
	if name == "" {
		return "", "", "a source needs one: name, or schema.name"
	}
	schema, table, dot := strings.Cut(name, ".")
	if !dot {
		schema, table = "public", name
	}
	for _, part := range []string{schema, table} {
		if reason := checkIdentifier(part); reason != "" {
			return "", "", reason
		}
	}
	switch {
	case schema == "information_schema" || strings.HasPrefix(schema, "pg_"):
		return "", "", fmt.Sprintf("the tables of schema %s are not published", schema)
	case schema == "freshet":
		return "", "", "schema freshet is Freshet's own"
	}
	return schema, table, ""
}

// maxIdentifierBytes is NAMEDATALEN - 1; Postgres cuts longer names.
const maxIdentifierBytes = 63

func checkIdentifier(name string) string {
	if name == "" {
		return "want name or schema.name"
	}
	if len(name) > maxIdentifierBytes {
		return fmt.Sprintf("%s has %d bytes, Postgres keeps %d", name, len(name), maxIdentifierBytes)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r == '.' || r == '"' || unicode.IsControl(r) }) || strings.TrimSpace(name) != name {
		return "want name or schema.name, as the catalogue has it: without quotes; if it has a dot, a quote or a blank at an end there, rename the table"
	}
	return ""
}
