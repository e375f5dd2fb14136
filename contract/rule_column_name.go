package contract

import (
	"slices"
	"strings"
)

// columnName: a source template takes columns, by plain names of Postgres.
var columnName = rule{"column-name", func(s *schema, report report) {
	for _, d := range s.sources {
		for _, t := range d.templates {
			if t.parsed == nil {
				continue
			}
			for _, column := range t.parsed.fields {
				switch {
				case isClaim(column):
					report(&d.element, t.at, "%s: %q is a claim of a caller, and a row is told to all; name the column that holds it", t.describe(), column)
				case strings.Contains(column, "."):
					report(&d.element, t.at, "%s: %q is a path; a source template takes columns of its table", t.describe(), column)
				case len(column) > maxIdentifierBytes:
					report(&d.element, t.at, "%s: column %q has %d bytes, Postgres keeps %d",
						t.describe(), column, len(column), maxIdentifierBytes)
				case slices.Contains(systemColumns, column) && !d.option.GetTold():
					report(&d.element, t.at, "%s: %q is a system column, which isn't in the WAL; name one of the table's own, such as its key", t.describe(), column)
				}
			}
		}
	}
}}

// systemColumns are in every table, and no other column can have their names. Where rows are
// told by whoever changes them, a name is but a name.
var systemColumns = []string{"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"}
