package server_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/intercept"
)

// F54, F49: a table is out of the publication. The node stays ready, reads of its
// topics find what nobody was told of, and whoever follows them is told with
// every heartbeat; the admin port says what is waited for. After the printed SQL
// has run, answers are kept again.
func TestRun_F54_quarantine(t *testing.T) {
	database := testkit.Migrated(t)
	addr := live.FreeAddr(t)
	r := start(t, database, func(c *live.Config) { c.Front.AdminAddr, c.Heartbeat = addr, 200*time.Millisecond })
	conn := testkit.Conn(t, database)
	c := r.client()
	list := func() (n int, cache string) {
		events := r.follow(t, "elsewhere")
		_, err := conn.Exec(r.ctx, `select pg_logical_emit_message(true, 'freshet', 'elsewhere')`)
		require.NoError(t, err)
		at := receive(t, r.ctx, events).Revision // above all that was committed before
		answer, err := c.ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}, at))
		require.NoError(t, err)
		require.False(t, stamp(t, answer.Header()).Less(at))
		return len(answer.Msg.GetMessages()), answer.Header().Get(intercept.HeaderCache)
	}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, path, nil)
		require.NoError(t, err)
		resp, err := r.http.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	insert(t, r.ctx, conn, "7")
	n, _ := list()
	require.Equal(t, 1, n)
	_, cache := list()
	require.Equal(t, "hit", cache)

	events := r.follow(t, "conversations/7/messages")
	_, err := conn.Exec(r.ctx, `alter publication freshet drop table messages`)
	require.NoError(t, err)
	for want := 2; want < 5; want++ {
		insert(t, r.ctx, conn, "7")
		n, cache = list()
		require.Equal(t, want, n)
		require.Equal(t, "miss", cache)
		receive(t, r.ctx, events)
	}
	code, text := get(r.url + "/readyz")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ready\n", text, "nobody else is told what is inside")
	code, text = get("http://" + addr + "/readyz")
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `^ready, but the source public\.messages has been in quarantine for .* lacks`, text)
	_, text = get("http://" + addr + "/metrics")
	require.Contains(t, text, `freshet_quarantined_sources{source="public.messages"} 1`)

	_, err = conn.Exec(r.ctx, `alter publication freshet add table messages (id, conversation)`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, cache := list()
		return cache == "hit"
	}, 20*time.Second, 10*time.Millisecond)
	_, text = get("http://" + addr + "/metrics")
	require.Contains(t, text, `freshet_quarantined_sources{source="public.messages"} 0`)
	_, text = get("http://" + addr + "/readyz")
	require.Equal(t, "ready\n", text)
}
