package check_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// What a workload lacks is said before anything is asked of the server.
func TestWorkload_refused(t *testing.T) {
	read := check.NewQuery("/a.v1.A/Get", func(check.Ask) *emptypb.Empty { return nil }, func(*emptypb.Empty) check.Page { return check.Page{} })
	place := check.Topic{Kind: check.OfPlace, Name: "boards/{board}", Read: read}
	create := workload.Messages().Create
	for _, tt := range []struct {
		topics []check.Topic
		says   string
	}{
		{nil, "no topic of the kind OfPlace"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "boards/{board}"}}, `topic "boards/{board}": nobody can read it`},
		{[]check.Topic{place, place}, "are of one kind"},
		{[]check.Topic{{Name: "boards/{board}", Read: read}}, "0 is no kind: set Kind"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "boards/{id}", Read: read}}, "OfPlace a {place}"},
		{[]check.Topic{place, {Kind: check.OfCaller, Name: "boards/{board}", Read: read}}, "OfCaller a {principal.claim}"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "boards/{principal.board}", Read: read}}, "OfPlace a {place}"},
		{[]check.Topic{place, {Kind: check.OfCaller, Name: "own/{principal.board}", Read: read}}, "set TokenOf"},
		{[]check.Topic{place, {Kind: check.OfRow, Name: "boards/{board}/{id}", Read: read}}, "OfRow an {id}"},
		{[]check.Topic{place, {Kind: check.OfAll, Name: "boards/{id}", Read: read}}, "the others neither"},
		{[]check.Topic{place, {Kind: check.OfItem, Name: "boards/{board}{id}", Read: read}}, "stand together"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "boards/{board", Read: read}}, "a brace isn't closed"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "{a}/{b}", Read: read}}, "at most one place"},
		{[]check.Topic{place, {Kind: check.OfAll, Name: "boards", Read: read, ByRow: true}}, "only one of the kind OfPlace can be"},
		{[]check.Topic{{Kind: check.OfPlace, Name: "boards/{board}", Read: read, ByRow: true}}, "add one of the kind OfRow"},
	} {
		_, err := check.Run(t.Context(), check.Config{URL: "http://127.0.0.1:1", Workload: check.Workload{Topics: tt.topics, Create: create}})
		require.ErrorContains(t, err, tt.says)
	}
	_, err := check.Run(t.Context(), check.Config{URL: "http://127.0.0.1:1", Workload: check.Workload{Topics: []check.Topic{place}}})
	require.ErrorContains(t, err, "nobody can write")
	_, err = check.OpenPostgres(t.Context(), "postgres://127.0.0.1:1/nothing", "x", check.Table{Name: "public.tasks"})
	require.ErrorContains(t, err, "set all of Table.Name, ID, Place and Cell")
}

// Topics are called on the wire as the templates say, and found again by what the
// server says.
func TestWorkload_topics(t *testing.T) {
	for full, short := range map[string]string{
		"conversations/a/messages":      "a",
		"conversations/-/messages":      check.Everything,
		"messages":                      check.Counted,
		"conversations/a/messages/id-5": "a/r5",
		"x.y":                           "x.y",
	} {
		require.Equal(t, full, check.Full(workload.Messages(), short))
		require.Equal(t, short, check.Short(workload.Messages(), full))
	}
	require.Equal(t, "counters/id-5", check.Full(tallyWorkload(), "/r5"))
	require.Equal(t, "/r5", check.Short(tallyWorkload(), "counters/id-5"))
	for _, other := range []string{"", "conversations", "conversations//messages", "conversations/a/b/messages", "conversations/a/messages/unknown"} {
		require.Equal(t, other, check.Short(workload.Messages(), other), "not the checker's")
	}
}

// A cell is a number, too, where a row has no text.
func TestCell_number(t *testing.T) {
	for _, c := range []check.Cell{{Row: 1, Version: 1}, {Row: 1 << 30, Version: 1<<20 - 1}} {
		again, ok := check.CellOf(c.Number())
		require.True(t, ok)
		require.Equal(t, c, again)
	}
	for _, number := range []int64{0, -1, 7, 1 << 20} {
		_, ok := check.CellOf(number)
		require.False(t, ok, number)
	}
}

// Names of tables and columns are quoted, columns that others fill are filled.
func TestPostgres_names(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `create table "Order Lines" ("Key" uuid primary key, "From" text not null, "Mark" bigint not null, "By Whom" text not null)`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
	database, err := check.OpenPostgres(ctx, url, "names", check.Table{
		Name: "public.Order Lines", ID: "Key", Place: "From", Cell: "Mark", Numbers: true, Others: map[string]any{"By Whom": "us"},
	})
	require.NoError(t, err)
	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	commits(ctx, t, s, check.Insert(1), check.Change{Cell: check.Cell{Row: 1, Version: 1}, To: "a"})
	how := check.Insert(2)
	how.Copy = true
	commits(ctx, t, s, how, check.Change{Cell: check.Cell{Row: 2, Version: 1}, To: "a"})
	commits(ctx, t, s, check.Manner{Was: []int{1}}, check.Change{Cell: check.Cell{Row: 1, Version: 2}, From: "a", To: "b"})
	commits(ctx, t, s, check.Manner{Was: []int{1}}, check.Change{Cell: check.Cell{Row: 2, Version: 2}, From: "a"})
	held, err := s.Read(ctx, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, map[string][]check.Cell{"b": {{Row: 1, Version: 2}}}, held.Places)
	require.NoError(t, database.Close(ctx, []string{"a", "b"}))
}
