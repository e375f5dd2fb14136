package wal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
	"github.com/freshet-dev/freshet/store/wal"
)

// columns are the golden vectors of columns (contract/testdata).
type columns struct {
	Types   []string
	Columns []column
}

type column struct {
	Type, Value string // SQL
	Topics      []string
}

// next returns the next column of the same type that isn't NULL, after the last one
// the first.
func (c columns) next(i int) column {
	for _, other := range slices.Concat(c.Columns[i+1:], c.Columns[:i]) {
		if other.Type == c.Columns[i].Type && other.Value != "null" {
			return other
		}
	}
	panic("a type with a single value")
}

// wide is a table with a column for each vector.
type wide struct {
	name           string   // for SQL
	columns        []string // with their types
	names          []string
	old, new       []string // values
	topics         []string // templates
	told, toldThen []string // topics of the old and of the new values
}

func (w *wide) add(prefix string, i int, c, next column) {
	w.columns = append(w.columns, fmt.Sprintf(`"Value%d" %s`, i, c.Type))
	w.names = append(w.names, fmt.Sprintf(`"Value%d"`, i))
	w.old, w.new = append(w.old, c.Value), append(w.new, next.Value)
	w.topics = append(w.topics, fmt.Sprintf("%s/%d/{Value%[2]d}", prefix, i))
	for _, topic := range c.Topics {
		w.told = append(w.told, fmt.Sprintf("%s/%d/%s", prefix, i, topic))
	}
	for _, topic := range next.Topics {
		w.toldThen = append(w.toldThen, fmt.Sprintf("%s/%d/%s", prefix, i, topic))
	}
}

// TestColumns: a row tells, for its old and its new version, the topics that a
// request for that value has, by the golden vectors that clients in Go and TypeScript
// are held to; whatever the database has for DateStyle. One table has all columns in
// its key, names that need quotes, a schema of its own, and partitions; the other one
// has REPLICA IDENTITY FULL, NULLs, and texts out of line (TOAST).
func TestColumns(t *testing.T) {
	b, err := os.ReadFile("../../contract/testdata/vectors.json")
	require.NoError(t, err)
	var vectors columns
	require.NoError(t, json.Unmarshal(b, &vectors))
	require.Greater(t, len(vectors.Columns), 30)

	keyed, full := wide{name: `"My App"."Order Items"`}, wide{name: `full_row`}
	for i, c := range vectors.Columns {
		full.add("full", i, c, vectors.next(i))
		if c.Value != "null" {
			keyed.add("keyed", i, c, vectors.next(i))
		}
	}
	program := testkit.Contract(t, testkit.Source{Table: "My App.Order Items", Topics: keyed.topics}, testkit.Source{Table: "full_row", Topics: full.topics})
	url := withColumns(t, program, strings.Join(vectors.Types, ";")+fmt.Sprintf(`;
create schema "My App";
create table %[1]s (id int, filler text, %[2]s, primary key (id, %[3]s)) partition by hash (id);
create table "My App"."Part 0" partition of %[1]s for values with (modulus 2, remainder 0);
create table "My App"."Part 1" partition of %[1]s for values with (modulus 2, remainder 1);
create table full_row (id int primary key, filler text, %[4]s);
alter table full_row replica identity full;
alter table full_row set (toast_tuple_target = 128);
do $$ declare name text; begin
  for name in select attname from pg_attribute where attrelid = 'full_row'::regclass and atttypid = 'text'::regtype loop
    execute format('alter table full_row alter %%I set storage external', name);
  end loop;
  execute format('alter database %%I set datestyle = ''SQL, DMY''', current_database());
end $$`, keyed.name, strings.Join(keyed.columns, ", "), strings.Join(keyed.names, ", "), strings.Join(full.columns, ", ")))
	feed := start(t, url, func(c *wal.Config) { c.Program = program }).live(t)
	for _, table := range []wide{keyed, full} {
		var moves []string
		for i, name := range table.names {
			moves = append(moves, name+" = "+table.new[i])
		}
		for _, step := range []struct {
			sql    string
			topics []string
		}{
			{"insert into " + table.name + " (id, filler, " + strings.Join(table.names, ", ") +
				") values (1, (select string_agg(md5(i::text), '') from generate_series(1, 100) i), " + strings.Join(table.old, ", ") + ")", table.told},
			{"update " + table.name + " set filler = filler || 'x'", table.told},
			{"update " + table.name + " set " + strings.Join(moves, ", "), sorted(slices.Concat(table.told, table.toldThen)...)},
			{"delete from " + table.name, table.toldThen},
		} {
			feed.forget()
			testkit.Exec(t, url, step.sql)
			feed.caughtUp(t)
			commits := feed.all()
			require.Len(t, commits, 1, step.sql)
			require.Empty(t, commits[0].Floors, step.sql)
			require.ElementsMatch(t, step.topics, commits[0].Topics, step.sql)
		}
	}
}

// withColumns is a database of the test's own in which ddl has run, set up for program.
func withColumns(t *testing.T, program *contract.Program, ddl string) string {
	t.Helper()
	url := testkit.Template(t, "wal", prepare)
	testkit.Exec(t, url, ddl)
	problems, err := setup.Apply(testkit.Context(t), testkit.Conn(t, url), program, "freshet")
	require.NoError(t, err)
	for _, p := range problems {
		require.Truef(t, p.Warning, "%s", p.Text)
	}
	return url
}

// TestColumns_length: 512 bytes are a topic, one more is told as all topics of the
// template; in characters of several bytes, too. So is a path with an empty segment.
func TestColumns_length(t *testing.T) {
	program := testkit.Contract(t, testkit.Source{Table: "long", Topics: []string{"{value}", "path/{value=**}"}})
	url := withColumns(t, program, `create table long (id int primary key, value text); alter table long replica identity full`)
	feed := start(t, url, func(c *wal.Config) { c.Program = program }).live(t)
	for _, c := range []struct {
		value  string
		topics []string
		floors []freshet.Pattern
	}{
		{strings.Repeat("x", 507), []string{strings.Repeat("x", 507), "path/" + strings.Repeat("x", 507)}, nil},
		{strings.Repeat("x", 512), []string{strings.Repeat("x", 512)}, []freshet.Pattern{"path/**"}},
		{strings.Repeat("x", 513), nil, []freshet.Pattern{"*", "path/**"}},
		{strings.Repeat("ö", 84), []string{strings.Repeat("%C3%B6", 84), "path/" + strings.Repeat("%C3%B6", 84)}, nil},
		{strings.Repeat("ö", 85), []string{strings.Repeat("%C3%B6", 85)}, []freshet.Pattern{"path/**"}},
		{strings.Repeat("ö", 86), nil, []freshet.Pattern{"*", "path/**"}},
		{"a\nb", []string{"a%0Ab", "path/a%0Ab"}, nil},
		{"a b/c", []string{"a%20b%2Fc", "path/a%20b/c"}, nil},
		{"a//b", []string{"a%2F%2Fb"}, []freshet.Pattern{"path/**"}},
	} {
		feed.forget()
		testkit.Exec(t, url, `insert into long values (1, $1)`, c.value)
		testkit.Exec(t, url, `delete from long`)
		feed.caughtUp(t)
		commits := feed.all()
		require.Len(t, commits, 2)
		for _, commit := range commits {
			require.ElementsMatch(t, c.topics, commit.Topics)
			require.ElementsMatch(t, c.floors, commit.Floors)
		}
	}
}

// TestColumns_enumLater: a column that becomes an enum, or a domain over one, while
// the feed runs has exact topics once somebody has looked at the catalog, and labels
// that come or change are told as they are by then.
func TestColumns_enumLater(t *testing.T) {
	program := testkit.Contract(t, testkit.Source{Table: "jobs", Topics: []string{"jobs/{state}"}})
	url := withColumns(t, program, `create table jobs (id int primary key, state text); alter table jobs replica identity full`)
	feed := start(t, url, func(c *wal.Config) { c.Program = program }).live(t)
	for i, c := range []struct{ ddl, value, topic string }{
		{`select 1`, "on", "jobs/on"},
		{`create type state as enum ('on', 'off'); alter table jobs alter state type state using state::state`, "on", "jobs/on"},
		{`alter type state rename value 'off' to 'out of order'`, "out of order", "jobs/out%20of%20order"},
		{`alter type state add value 'void'`, "void", "jobs/void"},
		{`create domain known as state; alter table jobs alter state type known`, "out of order", "jobs/out%20of%20order"},
		{`alter type state rename to condition`, "on", "jobs/on"},
		{`alter table jobs alter state type text`, "off", "jobs/off"},
	} {
		testkit.Exec(t, url, c.ddl)
		feed.await(t, "the topic and nothing else after "+c.ddl, func() bool {
			feed.awaitNoQuarantine(t)
			feed.caughtUp(t)
			feed.forget()
			testkit.Exec(t, url, `insert into jobs (id, state) values ($1, $2)`, i, c.value)
			testkit.Exec(t, url, `delete from jobs where id = $1`, i)
			feed.caughtUp(t)
			commits := feed.all()
			exact := len(commits) == 2
			for _, commit := range commits {
				require.True(t, len(commit.Floors) > 0 || slices.Contains(commit.Topics, c.topic), "%v", commit)
				exact = exact && len(commit.Floors) == 0 && len(commit.Topics) == 1
			}
			return exact
		})
	}
}
