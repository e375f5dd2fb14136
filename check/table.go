package check

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// statements are a table's SQL.
type statements struct {
	numbers bool
	others  []any

	name    pgx.Identifier
	table   string // the same, quoted
	columns []string

	insert, update, remove, truncate, read, clear string
}

func (t Table) statements() (*statements, error) {
	if t.Name == "" || t.ID == "" || t.Place == "" || t.Cell == "" {
		return nil, errors.New("workload: writers by SQL need the table's name, and those of its columns: set all of Table.Name, ID, Place and Cell")
	}
	s := &statements{numbers: t.Numbers, name: pgx.Identifier(strings.SplitN(t.Name, ".", 2)), columns: []string{t.ID, t.Place, t.Cell}}
	s.table = s.name.Sanitize()
	for _, column := range slices.Sorted(maps.Keys(t.Others)) {
		s.columns, s.others = append(s.columns, column), append(s.others, t.Others[column])
	}
	quoted, values := make([]string, 0, len(s.columns)), make([]string, 0, len(s.columns))
	for i, column := range s.columns {
		quoted, values = append(quoted, pgx.Identifier{column}.Sanitize()), append(values, "$"+strconv.Itoa(i+1))
	}
	place, cell := quoted[1], quoted[2]
	s.insert = fmt.Sprintf("insert into %s (%s) values (%s)", s.table, strings.Join(quoted, ", "), strings.Join(values, ", "))
	s.update = fmt.Sprintf("update %s set %s = $3, %s = $4 where %[2]s = $1 and %[3]s = $2", s.table, place, cell)
	s.remove = fmt.Sprintf("delete from %s where %s = $1 and %s = $2", s.table, place, cell)
	s.truncate = "truncate " + s.table
	s.read = fmt.Sprintf("select %s, %s::text from %s where %[1]s = any($1)", place, cell, s.table)
	s.clear = fmt.Sprintf("delete from %s where %s = any($1)", s.table, place)
	return s, nil
}

// row are the values of all columns.
func (s *statements) row(id string, c Change) []any {
	return append([]any{id, c.To, s.mark(c.Cell)}, s.others...)
}

// mark is what the column of the cell holds.
func (s *statements) mark(c Cell) any {
	if s.numbers {
		return c.Number()
	}
	return c.String()
}

// cell reads what the column of the cell holds; ok: it is one.
func (s *statements) cell(mark string) (c Cell, ok bool) {
	if !s.numbers {
		c, err := ParseCell(mark)
		return c, err == nil
	}
	number, err := strconv.ParseInt(mark, 10, 64)
	if err != nil {
		return Cell{}, false
	}
	return CellOf(number)
}
