package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// cause reads the header as a client would.
func cause(t *testing.T, h http.Header) map[string]string {
	t.Helper()
	value := h.Get(intercept.HeaderCause)
	require.NotEmpty(t, value)
	found := map[string]string{}
	for member := range strings.SplitSeq(value, ", ") {
		key, text, ok := strings.Cut(member, "=")
		require.True(t, ok, value)
		found[key] = strings.Trim(text, `"`)
	}
	return found
}

// The answer of a read at-least what the stream has told says why that was told, be it
// a query of its own or kept; what is asked for in another way says nothing.
func TestExplain_saysWhatHasChanged(t *testing.T) {
	database := testkit.Migrated(t)
	r := start(t, database, func(c *live.Config) { c.Explain = true })
	conn := testkit.Conn(t, database)
	events := r.follow(t, "conversations/7/messages")
	list := func(at freshet.Revision) http.Header {
		resp, err := r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}, at))
		require.NoError(t, err)
		return resp.Header()
	}
	require.Empty(t, list(freshet.Revision{}).Get(intercept.HeaderCause), "a strong read")

	var xid string
	began := time.Now()
	require.NoError(t, conn.QueryRow(r.ctx, `with w as (insert into messages (conversation, author, body) values ('7', 'a', 'secret'), ('7', 'b', 'secret'))
		select (pg_current_xact_id()::text::numeric % 4294967296)::text`).Scan(&xid))
	first := receive(t, r.ctx, events).Revision
	for _, from := range []string{"miss", "hit"} {
		h := list(first)
		require.Equal(t, from, h.Get(intercept.HeaderCache))
		found := cause(t, h)
		at, err := time.Parse(time.RFC3339Nano, found["time"])
		require.NoError(t, err)
		require.WithinDuration(t, began, at, time.Minute)
		delete(found, "time")
		require.Equal(t, map[string]string{
			"change": "insert", "topic": "conversations/7/messages", "table": "public.messages", "rows": "2", "xid": xid, "revision": first.String(),
		}, found)
		require.NotContains(t, h.Get(intercept.HeaderCause), "secret")
	}

	_, err := conn.Exec(r.ctx, `update messages set conversation = '8' where author = 'a'`)
	require.NoError(t, err)
	second := receive(t, r.ctx, events).Revision
	require.Equal(t, "update", cause(t, list(second))["change"])
	require.Equal(t, "insert", cause(t, list(first))["change"], "who was told the first asks for the first")

	_, err = conn.Exec(r.ctx, `select pg_logical_emit_message(true, 'freshet', 'conversations/7/messages')`)
	require.NoError(t, err)
	require.Equal(t, "message", cause(t, list(receive(t, r.ctx, events).Revision))["change"])

	// It also has its source looked at, which tells its topics again.
	truncated := freshet.Revision{Epoch: first.Epoch}
	_, err = conn.Exec(r.ctx, `truncate messages`)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(r.ctx, `select pg_current_wal_insert_lsn() - '0/0'`).Scan(&truncated.Position))
	var found map[string]string
	require.Eventually(t, func() bool {
		found = cause(t, list(truncated))
		return found["change"] != "unsure" // in quarantine
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, "truncate", found["change"])
	require.Equal(t, "conversations/*/messages", found["pattern"])
	require.Empty(t, found["topic"])

	// Not found is an answer, too; a refusal is none.
	_, err = r.client().GetMessage(r.ctx, request(&messagesv1.GetMessageRequest{Name: "conversations/7/messages/" + "01890a5d-ac96-774b-bcce-b302099a8057"}, truncated))
	require.Equal(t, "truncate", cause(t, requireCode(t, connect.CodeNotFound, err).Meta())["change"])
	_, err = r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{}, truncated))
	require.Empty(t, requireCode(t, connect.CodeInvalidArgument, err).Meta().Get(intercept.HeaderCause))
	created, err := r.client().CreateMessage(r.ctx, request(&messagesv1.CreateMessageRequest{Parent: "conversations/7", Message: &messagesv1.Message{Author: "a", Body: "b"}}, truncated))
	require.NoError(t, err)
	require.Empty(t, created.Header().Get(intercept.HeaderCause), "a write")
}

// A node that has just begun knows nothing of what came before, and says so.
func TestExplain_afterABeginning(t *testing.T) {
	database := testkit.Migrated(t)
	first := start(t, database, nil)
	list := func(r *running, at freshet.Revision) http.Header {
		resp, err := r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}, at))
		require.NoError(t, err)
		return resp.Header()
	}
	at := stamp(t, list(first, freshet.Revision{}))
	require.Empty(t, list(first, at).Get(intercept.HeaderCause), "it isn't on")

	second := start(t, database, func(c *live.Config) { c.Explain = true })
	now := stamp(t, list(second, freshet.Revision{}))
	require.Equal(t, "began", cause(t, list(second, now))["change"])
	at.Position = 1
	require.Equal(t, "unknown", cause(t, list(second, at))["change"], "below what it knows")
}
