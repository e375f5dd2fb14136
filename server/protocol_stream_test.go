package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// maxFrame is what docs/protocol.md says.
const maxFrame = 32 << 10

// invalidation is the data of an invalidate.
type invalidation struct {
	Revision string
	Topics   []string
}

func (f frame) invalidation(t *testing.T) (data invalidation) {
	t.Helper()
	require.Equal(t, "invalidate", f.event)
	require.NoError(t, json.Unmarshal([]byte(f.data), &data))
	return data
}

// TestProtocol_stream holds the sentences of docs/protocol.md that take many
// writes, or writes by SQL, against a server.
func TestProtocol_stream(t *testing.T) {
	t.Parallel()
	database := testkit.Migrated(t)
	s := start(t, database, nil)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	wire := func(t *testing.T) wire { return wire{t: t, base: s.url, http: &http.Client{Transport: transport}} }

	t.Run("strong-sees-returned-commits", func(t *testing.T) {
		w := wire(t)
		for n := range 20 {
			body := fmt.Sprintf("by SQL %d", n)
			testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('strong', 'psql', $1)`, body)
			require.Contains(t, w.list("strong").raw, body)
		}
	})
	t.Run("topic-limits", func(t *testing.T) { // what is above them is refused: errors-before-the-stream
		most := []string{strings.Repeat("x", 512)}
		for len(most) < 1000 {
			most = append(most, fmt.Sprint("topic ", len(most)))
		}
		list, err := json.Marshal(map[string]any{"topics": most})
		require.NoError(t, err)
		frames := until(wire(t).open(http.MethodPost, "/events", string(list)), "ready")
		require.Contains(t, frames[len(frames)-1].data, `"topics":1000,`)
	})
	t.Run("id-promise", func(t *testing.T) { // before a frame with id R, every change up to R has been told
		w := wire(t)
		rooms := []string{"promise-a", "promise-b", "promise-c"}
		topic := func(room string) string { return "conversations/" + room + "/messages" }
		next := w.open(http.MethodGet, events(topic(rooms[0]), topic(rooms[1]), topic(rooms[2]))+"&throttle=0", "")
		until(next, "ready")
		type write struct{ room, revision string }
		var writes []write
		for n := range 60 {
			room := rooms[n%len(rooms)]
			writes = append(writes, write{room, w.create(room).revision()})
		}
		last := ""
		told := make(map[string]string) // the highest revision told, by topic
		for len(writes) > 0 {
			f := next()
			if f.event == "invalidate" {
				data := f.invalidation(t)
				for _, topic := range data.Topics {
					told[topic] = max(told[topic], data.Revision)
				}
			}
			if f.id == "" {
				continue
			}
			require.GreaterOrEqual(t, f.id, last, "ids never go back")
			last = f.id
			for len(writes) > 0 && writes[0].revision <= f.id {
				require.GreaterOrEqual(t, told[topic(writes[0].room)], writes[0].revision)
				writes = writes[1:]
			}
		}
	})
	t.Run("split-frames", func(t *testing.T) { // of a long list each part says the revision, the last one carries the id
		w := wire(t)
		var topics []string
		for n := range 1000 {
			topics = append(topics, fmt.Sprintf("conversations/split-%04d-%s/messages", n, strings.Repeat("x", 40)))
		}
		list, err := json.Marshal(map[string]any{"topics": topics})
		require.NoError(t, err)
		next := w.open(http.MethodPost, "/events", string(list))
		until(next, "ready")
		testkit.Exec(t, database, `insert into messages (conversation, author, body)
			select format('split-%s-%s', to_char(n, 'FM0000'), repeat('x', 40)), 'psql', 'all at once' from generate_series(0, 999) n`)
		var got []string
		var revision string
		parts := 0
		for {
			f := until(next, "invalidate")
			part := f[len(f)-1]
			require.LessOrEqual(t, len(part.data), maxFrame)
			data := part.invalidation(t)
			require.True(t, revision == "" || data.Revision == revision, "one revision in all parts")
			revision = data.Revision
			got = append(got, data.Topics...)
			parts++
			if part.id != "" {
				require.Equal(t, revision, part.id)
				break
			}
		}
		require.Greater(t, parts, 2)
		slices.Sort(got)
		require.Equal(t, topics, got)
	})
	t.Run("throttle", func(t *testing.T) { // the first leaves at once, later ones are merged, the last is never lost
		w := wire(t)
		const throttle = 700 * time.Millisecond
		next := w.open(http.MethodGet, events("conversations/slow-a/messages", "conversations/slow-b/messages")+
			fmt.Sprintf("&throttle=%d", throttle.Milliseconds()), "")
		until(next, "ready")
		w.create("slow-a")
		first := until(next, "invalidate")
		at := time.Now()
		require.Equal(t, []string{"conversations/slow-a/messages"}, first[len(first)-1].invalidation(t).Topics)
		w.create("slow-b")
		last := w.create("slow-a").revision()
		for told := ""; told < last; {
			merged := until(next, "invalidate")
			told = merged[len(merged)-1].invalidation(t).Revision
			require.Greater(t, time.Since(at), throttle/2)
			at = time.Now()
		}
	})
}

// shutdown-retry: a server that stops says when to come back, and ends the stream.
func TestProtocol_shutdown(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Migrated(t), func(c *live.Config) { c.Heartbeat = time.Minute })
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url+events("messages"), nil)
	require.NoError(t, err)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	begun := make([]byte, 1)
	_, err = io.ReadFull(resp.Body, begun)
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "the end is a clean one")
	require.NoError(t, <-stopped)
	// One retry begins the stream, another comes with its last frame.
	blocks := strings.Split(strings.TrimSpace(string(begun)+string(rest)), "\n\n")
	require.Greater(t, len(blocks), 1, "%s", rest)
	require.Regexp(t, `(^|\n)retry: ?\d+\n`, blocks[len(blocks)-1])
}
