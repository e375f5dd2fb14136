package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// message is the table as a SQL writer sees it.
type message struct {
	ID           uuid.UUID
	Conversation string
	Author       string
	Body         string
	CreateTime   time.Time
	UpdateTime   time.Time
	Etag         uuid.UUID
	RequestID    uuid.NullUUID
	RequestHash  []byte
}

func write(t testing.TB, conn *pgx.Conn, sql string, args ...any) message {
	t.Helper()
	rows, err := conn.Query(testkit.Context(t), sql+" returning *", args...)
	require.NoError(t, err)
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message])
	require.NoError(t, err)
	return m
}

func TestMessages_sqlDefaults(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	before := time.Now().Add(-time.Minute)
	m := write(t, conn, "insert into messages (conversation, author, body) values ('7', 'ann', 'hi')")
	require.Equal(t, uuid.Version(7), m.ID.Version())
	require.Equal(t, uuid.RFC4122, m.ID.Variant())
	require.True(t, m.CreateTime.After(before))
	require.Equal(t, m.CreateTime, m.UpdateTime)
	require.Equal(t, uuid.Version(4), m.Etag.Version())
	require.False(t, m.RequestID.Valid)
	require.Nil(t, m.RequestHash)

	sec, nsec := m.ID.Time().UnixTime()
	require.WithinDuration(t, m.CreateTime, time.Unix(sec, nsec), time.Second)
}

func TestMessages_uuidv7Ascends(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	rows, err := conn.Query(testkit.Context(t), "select freshet.uuidv7() from generate_series(1, 5000)")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	descents := 0
	seen := make(map[uuid.UUID]bool)
	for i, id := range ids {
		seen[id] = true
		// The 60 bits of time; the same quarter of a microsecond may come twice.
		if i > 0 && strings.Compare(id.String()[:18], ids[i-1].String()[:18]) < 0 {
			descents++
		}
	}
	require.Zero(t, descents)
	require.Len(t, seen, len(ids))
}

// Each UPDATE is a new version, whatever it sets, and however the clock goes.
func TestMessages_sqlUpdate(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	m := write(t, conn, "insert into messages (conversation, author, body) values ('7', 'ann', 'hi')")
	for name, set := range map[string]string{
		"body":        "body = 'ho'",
		"nothing new": "body = body",
		"own etag":    "etag = '" + m.Etag.String() + "'",
		"own time":    "update_time = '2000-01-01'",
		"moved":       "conversation = '8'",
	} {
		u := write(t, conn, "update messages set "+set+" where id = $1", m.ID)
		require.NotEqual(t, m.Etag, u.Etag, name)
		require.True(t, u.UpdateTime.After(m.UpdateTime), name)
		require.Equal(t, m.CreateTime, u.CreateTime, name)
		m = u
	}
	_, err := conn.Exec(testkit.Context(t), `alter table messages disable trigger messages_update;
		update messages set update_time = '2999-01-01 00:00:00+00';
		alter table messages enable trigger messages_update`)
	require.NoError(t, err)
	u := write(t, conn, "update messages set body = 'later' where id = $1", m.ID)
	require.Equal(t, "2999-01-01T00:00:00.000001Z", u.UpdateTime.UTC().Format(time.RFC3339Nano), "clock stepped back")
}

// An import brings its own times and ids.
func TestMessages_sqlImport(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	m := write(t, conn, `insert into messages (id, conversation, author, body, create_time, update_time, etag)
		values ('00000000-0000-4000-8000-000000000000', '7', 'ann', 'hi', '2001-01-01', '2002-01-01', '00000000-0000-0000-0000-000000000000')`)
	require.Equal(t, 2001, m.CreateTime.Year())
	require.Equal(t, 2002, m.UpdateTime.Year())
	require.NotEqual(t, uuid.Nil, m.Etag)
}

// The request's hash is of the first content, and comes by itself.
func TestMessages_requestHash(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	const insert = "insert into messages (conversation, author, body, request_id) values ($1, $2, $3, $4)"
	id := uuid.New()
	m := write(t, conn, insert, "7", "ann", "hi", id)
	require.Len(t, m.RequestHash, 32)
	require.Equal(t, m.RequestHash, write(t, conn, "update messages set body = 'ho' where id = $1", m.ID).RequestHash)
	require.Equal(t, m.RequestHash, write(t, conn, insert, "8", "ann", "hi", id).RequestHash, "another conversation's ids are its own")
	require.NotEqual(t, m.RequestHash, write(t, conn, insert, "7", "an", "nhi", uuid.New()).RequestHash)

	given := write(t, conn, "update messages set request_id = $2 where id = $1", m.ID, uuid.New())
	require.NotEqual(t, m.RequestHash, given.RequestHash, "of the content that the id was given to")

	_, err := conn.Exec(testkit.Context(t), insert, "7", "bob", "x", given.RequestID)
	require.ErrorContains(t, err, "messages_request_key")
}

func TestMessages_constraints(t *testing.T) {
	t.Parallel()
	conn := testkit.Conn(t, migrated(t))
	long := strings.Repeat("é", 128)
	write(t, conn, "insert into messages (conversation, author, body) values ($1, $2, $3)",
		"a"+strings.Repeat("-", 61)+"9", long, strings.Repeat("é", 16384))

	for _, test := range []struct{ conversation, author, body, constraint string }{
		{"", "a", "b", "messages_conversation_check"},
		{"-", "a", "b", "messages_conversation_check"},
		{"A", "a", "b", "messages_conversation_check"},
		{"a-", "a", "b", "messages_conversation_check"},
		{"a/b", "a", "b", "messages_conversation_check"},
		{"é", "a", "b", "messages_conversation_check"},
		{"a\n", "a", "b", "messages_conversation_check"},
		{strings.Repeat("a", 64), "a", "b", "messages_conversation_check"},
		{"7", "", "b", "messages_author_check"},
		{"7", long + "x", "b", "messages_author_check"},
		{"7", "a", "", "messages_body_check"},
		{"7", "a", strings.Repeat("b", 16385), "messages_body_check"},
	} {
		_, err := conn.Exec(testkit.Context(t), "insert into messages (conversation, author, body) values ($1, $2, $3)",
			test.conversation, test.author, test.body)
		requireConstraint(t, test.constraint, err)
	}
	for _, when := range []string{"infinity", "-infinity", "10000-01-01", "0001-01-01 BC"} {
		_, err := conn.Exec(testkit.Context(t), "insert into messages (conversation, author, body, create_time) values ('7', 'a', 'b', $1::text::timestamptz)", when)
		requireConstraint(t, "messages_time_check", err)
	}
}

func requireConstraint(t *testing.T, name string, err error) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, name, pg.ConstraintName)
}

// The identity names the conversation that a row was in; the lists have their
// indexes, and a page of conversations hops over the rows of each.
func TestMessages_indexes(t *testing.T) {
	t.Parallel()
	ctx, conn := testkit.Context(t), testkit.Conn(t, migrated(t))
	require.Equal(t, "messages_conversation_id_key", one[string](t, conn,
		"select indexrelid::regclass::text from pg_index where indrelid = 'messages'::regclass and indisreplident"))

	_, err := conn.Exec(ctx, `insert into messages (conversation, author, body)
		select (i % 50)::text, 'a', 'b' from generate_series(1, 20000) as i`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "vacuum analyze messages")
	require.NoError(t, err)
	for name, index := range map[string]string{
		"ListMessages":      "Index Scan Backward using messages_by_conversation",
		"ListAllMessages":   "Index Scan Backward using messages_by_time",
		"GetMessage":        "Index Scan using messages_",
		"ListConversations": "Index Only Scan using messages_by_conversation",
	} {
		plan := explain(t, conn, query(t, name))
		require.Contains(t, plan, index, name+"\n"+plan)
		require.NotContains(t, plan, "Seq Scan on messages", name)
		require.NotContains(t, plan, "Filter: (ROW", name+": the key must be a condition of the index")
	}
}

// explain returns the plan that a prepared statement has once its parameters
// are no longer looked at.
func explain(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	ctx := testkit.Context(t)
	desc, err := conn.Prepare(ctx, "explained", sql)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Deallocate(ctx, "explained")) }()
	_, err = conn.Exec(ctx, "set plan_cache_mode = force_generic_plan")
	require.NoError(t, err)
	nulls := strings.TrimSuffix(strings.Repeat("null,", len(desc.ParamOIDs)), ",")
	rows, err := conn.Query(ctx, "explain execute explained ("+nulls+")", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}
