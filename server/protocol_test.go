package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// TestProtocol holds docs/protocol.md against a server: each case is a sentence
// of it that a client's author relies on.
func TestProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, testkit.Migrated(t), func(c *live.Config) {
		c.Heartbeat, c.MaxWait = time.Second, time.Second
	})
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	for name, test := range protocol {
		t.Run(name, func(t *testing.T) {
			test(t, wire{t: t, base: s.url, http: &http.Client{Transport: transport}})
		})
	}
}

var protocol = map[string]func(*testing.T, wire){
	// Calls.
	"rev-shape": func(t *testing.T, w wire) {
		shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{16}$`)
		require.Regexp(t, shape, w.list("shape").revision())
		require.Regexp(t, shape, w.create("shape").revision())
		require.Regexp(t, shape, until(w.open(http.MethodGet, events("messages"), ""), "ready")[0].id)
	},
	"at-least-contains": func(t *testing.T, w wire) {
		written := w.create("contains").revision()
		a := w.list("contains", "Freshet-At-Least", written)
		require.Contains(t, a.raw, `"body":"b"`)
		require.GreaterOrEqual(t, a.revision(), written)
	},
	"at-least-list": func(t *testing.T, w wire) { // the highest counts, of one line or of several
		low, high := w.list("list").revision(), w.create("list").revision()
		require.GreaterOrEqual(t, w.list("list", "Freshet-At-Least", high+", "+low).revision(), high)
		require.GreaterOrEqual(t, w.list("list", "Freshet-At-Least", low, "Freshet-At-Least", high).revision(), high)
	},
	"at-least-empty-is-strong": func(t *testing.T, w wire) {
		require.Equal(t, http.StatusOK, w.list("empty", "Freshet-At-Least", "").status)
	},
	"at-least-unknown": func(t *testing.T, w wire) {
		for _, rev := range []string{malformed, "nonsense", future(w.list("unknown").revision())} {
			a := w.list("unknown", "Freshet-At-Least", rev)
			require.Equal(t, "invalid_argument", a.code, rev)
			info := detail[errdetails.ErrorInfo](t, a, "google.rpc.ErrorInfo")
			require.Equal(t, "freshet.dev AT_LEAST_UNKNOWN", info.GetDomain()+" "+info.GetReason())
			require.Empty(t, a.revision())
		}
	},
	"bad-request-is-not-at-least": func(t *testing.T, w wire) {
		a := w.list("Not A Conversation")
		require.Equal(t, "invalid_argument", a.code)
		require.NotContains(t, a.raw, "google.rpc.ErrorInfo")
		require.Empty(t, a.revision())
	},
	"at-least-old-epoch": func(t *testing.T, w wire) {
		a := w.list("old", "Freshet-At-Least", oldEpoch)
		require.Equal(t, "failed_precondition", a.code)
		info := detail[errdetails.ErrorInfo](t, a, "google.rpc.ErrorInfo")
		require.Equal(t, "freshet.dev EPOCH_CHANGED", info.GetDomain()+" "+info.GetReason())
		current, err := freshet.ParseRevision(info.GetMetadata()["revision"])
		require.NoError(t, err)
		require.Equal(t, current.String()[:8], info.GetMetadata()["epoch"])
		require.Empty(t, a.revision())
	},
	"at-least-new-epoch": func(t *testing.T, w wire) {
		a := w.list("new", "Freshet-At-Least", newEpoch)
		require.Equal(t, "unavailable", a.code)
		require.Positive(t, detail[errdetails.RetryInfo](t, a, "google.rpc.RetryInfo").GetRetryDelay().AsDuration())
		require.Empty(t, a.revision())
	},
	"stamp-on-not-found": func(t *testing.T, w wire) {
		a := w.do(http.MethodPost, messagesPath+"GetMessage", `{"name":"conversations/x/messages/01928c7e-0000-7000-8000-000000000001"}`)
		require.Equal(t, "not_found", a.code)
		require.NotEmpty(t, a.revision())
	},
	"stamp-absent-without-a-handler": func(t *testing.T, w wire) {
		for _, body := range []string{`{"parent":`, `{"parent":7}`} {
			a := w.do(http.MethodPost, messagesPath+"ListMessages", body)
			require.Equal(t, "invalid_argument", a.code)
			require.Empty(t, a.revision())
		}
	},
	"mutation-need": func(t *testing.T, w wire) {
		a := w.create("need")
		require.Contains(t, w.list("need", "Freshet-At-Least", a.revision()).raw, `"body":"b"`)
	},
	"mutation-topics": func(t *testing.T, w wire) {
		topics := strings.Split(w.create("topics").header.Get("Freshet-Topics"), ",")
		require.Subset(t, topics, []string{"messages", "conversations/-/messages", "conversations/topics/messages"})
		require.Len(t, topics, 4)
	},
	"etag-304-new-stamp": func(t *testing.T, w wire) {
		w.create("etag")
		path := messagesPath + "ListMessages?" + url.Values{
			"encoding": {"json"}, "connect": {"v1"}, "message": {`{"parent":"conversations/etag"}`},
		}.Encode()
		first := w.do(http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, first.status, first.raw)
		later := w.create("another").revision()
		again := w.do(http.MethodGet, path, "", "If-None-Match", first.header.Get("ETag"), "Freshet-At-Least", later)
		require.Equal(t, http.StatusNotModified, again.status)
		require.GreaterOrEqual(t, again.revision(), later)
	},

	// The stream.
	"no-since-no-catch-up": func(t *testing.T, w wire) {
		w.create("fresh")
		require.Empty(t, told(t, until(w.open(http.MethodGet, events("conversations/fresh/messages"), ""), "ready")))
	},
	"catch-up-then-ready-then-live": func(t *testing.T, w wire) {
		before := w.list("order").revision()
		w.create("order")
		next := w.open(http.MethodGet, events("conversations/order/messages")+"&throttle=0&since="+before, "")
		first := until(next, "ready")
		require.Equal(t, []string{"conversations/order/messages"}, told(t, first))
		require.GreaterOrEqual(t, first[len(first)-1].id, first[0].id)
		written := w.create("order").revision()
		live := until(next, "invalidate")
		require.LessOrEqual(t, live[len(live)-1].id, future(written))
		require.Greater(t, live[len(live)-1].id, first[len(first)-1].id)
	},
	"empty-since-is-none": func(t *testing.T, w wire) {
		w.create("none")
		require.Empty(t, told(t, until(w.open(http.MethodGet, events("conversations/none/messages")+"&since=", ""), "ready")))
	},
	"since-by-topic": func(t *testing.T, w wire) {
		before := w.list("by-a").revision()
		w.create("by-a")
		after := w.create("by-b").revision()
		body := fmt.Sprintf(`{"topics":["conversations/by-a/messages","conversations/by-b/messages"],"since":%q,"since_by_topic":{"conversations/by-b/messages":%q}}`, before, after)
		require.Equal(t, []string{"conversations/by-a/messages"}, told(t, until(w.open(http.MethodPost, "/events", body), "ready")))
	},
	"last-event-id-replaces-since": func(t *testing.T, w wire) {
		before := w.list("last").revision()
		after := w.create("last").revision()
		require.Empty(t, told(t, until(w.open(http.MethodGet, events("conversations/last/messages")+"&since="+before, "", "Last-Event-Id", after), "ready")))
	},
	"reset-on-what-is-not-ours": func(t *testing.T, w wire) {
		here := w.list("reset").revision()
		for _, since := range []string{oldEpoch, newEpoch, future(here)} {
			require.Equal(t, []string{"reset", "ready"}, kinds(until(w.open(http.MethodGet, events("messages")+"&since="+since, ""), "ready")), since)
		}
		for _, id := range []string{oldEpoch, newEpoch, future(here), malformed, "42"} {
			require.Equal(t, []string{"reset", "ready"}, kinds(until(w.open(http.MethodGet, events("messages"), "", "Last-Event-Id", id), "ready")), id)
		}
	},
	"post-ignores-last-event-id": func(t *testing.T, w wire) {
		next := w.open(http.MethodPost, "/events", `{"topics":["messages"]}`, "Last-Event-Id", oldEpoch)
		require.Equal(t, []string{"ready"}, kinds(until(next, "ready")))
	},
	"stream-begins-with-retry": func(t *testing.T, w wire) {
		require.True(t, until(w.open(http.MethodGet, events("messages"), ""), "ready")[0].retry)
	},
	"ready-and-heartbeat": func(t *testing.T, w wire) {
		next := w.open(http.MethodGet, events("messages"), "")
		first := until(next, "ready")
		var ready struct {
			Revision  string
			Topics    int
			Heartbeat int `json:"heartbeat_ms"`
			Contract  string
		}
		require.NoError(t, json.Unmarshal([]byte(first[len(first)-1].data), &ready))
		require.Equal(t, 1, ready.Topics)
		require.Equal(t, 1000, ready.Heartbeat)
		require.NotEmpty(t, ready.Contract)
		beat := until(next, "frontier")
		require.GreaterOrEqual(t, beat[len(beat)-1].id, ready.Revision)
	},
	"errors-before-the-stream": func(t *testing.T, w wire) {
		many := strings.Repeat(`"t",`, 20_000) + `"t"`
		topics := make([]string, 1001)
		for i := range topics {
			topics[i] = fmt.Sprintf("t/%d", i)
		}
		list, err := json.Marshal(topics)
		require.NoError(t, err)
		for _, c := range []struct {
			method, path, body string
			header             []string
			status             int
			code               string
		}{
			{http.MethodGet, "/events", "", nil, 400, "invalid_argument"},
			{http.MethodGet, events(""), "", nil, 400, "invalid_argument"},
			{http.MethodGet, events(strings.Repeat("x", 513)), "", nil, 400, "invalid_argument"},
			{http.MethodGet, events("a\x01b"), "", nil, 400, "invalid_argument"},
			{http.MethodGet, events("t") + "&since=" + malformed, "", nil, 400, "invalid_argument"},
			{http.MethodGet, events("t") + "&throttle=10001", "", nil, 400, "invalid_argument"},
			{http.MethodGet, events("t") + "&topics=u", "", nil, 400, "invalid_argument"},
			{http.MethodPost, "/events", `{"topics":["t"],"sinces":""}`, nil, 400, "invalid_argument"},
			{http.MethodPost, "/events", `{"topics":["t"],"since_by_topic":{"u":""}}`, nil, 400, "invalid_argument"},
			{http.MethodPost, "/events", `{"topics":[` + many + `]}`, nil, 413, "resource_exhausted"},
			{http.MethodPost, "/events", `{"topics":` + string(list) + `}`, nil, 413, "resource_exhausted"},
			{http.MethodPost, "/events", `topics=t`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "invalid_argument"},
			{http.MethodPut, "/events", `{}`, nil, 405, ""},
		} {
			a := w.do(c.method, c.path, c.body, c.header...)
			require.Equal(t, c.status, a.status, "%s %.80s %.80s: %s", c.method, c.path, c.body, a.raw)
			if c.code != "" {
				require.Equal(t, c.code, a.code)
			}
			require.NotEmpty(t, a.body.Message)
			require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		}
	},
	"repeated-topics-are-one": func(t *testing.T, w wire) {
		frames := until(w.open(http.MethodGet, events("messages", "messages"), ""), "ready")
		require.Contains(t, frames[len(frames)-1].data, `"topics":1,`)
	},
	"watch-is-a-stream-rpc": func(t *testing.T, w wire) { // not application/json
		req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodPost, w.base+"/freshet.v1.InvalidationService/Watch", strings.NewReader(`{"topics":["messages"]}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := w.http.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode)
		require.Contains(t, resp.Header.Get("Accept-Post"), "application/connect+json")
	},
}
