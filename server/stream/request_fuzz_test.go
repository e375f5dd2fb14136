package stream

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// requireSound holds of whatever a parser makes of a request: it is refused as the
// caller's mistake, in words that can be printed; or what it asks for is within
// bounds.
func requireSound(t *testing.T, s *Server, req *request, bad *refusal) {
	t.Helper()
	if bad != nil {
		require.Nil(t, req)
		require.GreaterOrEqual(t, bad.status, 400)
		require.Less(t, bad.status, 500)
		require.NotContains(t, bad.message, "\n")
		require.NotContains(t, bad.message, "\x00")
		return
	}
	require.NotEmpty(t, req.topics)
	require.LessOrEqual(t, len(req.topics), s.config.MaxTopics)
	distinct := map[string]bool{}
	for _, topic := range req.topics {
		require.NoError(t, freshet.CheckTopic(topic))
		require.False(t, distinct[topic], "twice")
		distinct[topic] = true
	}
	for topic := range req.since.ByTopic {
		require.True(t, distinct[topic], "a since of another topic")
	}
	require.LessOrEqual(t, req.throttle, MaxThrottle)
	require.GreaterOrEqual(t, req.throttle, time.Duration(0))
}

func FuzzParseGet(f *testing.F) {
	for _, seed := range []struct{ query, id string }{
		{"topic=a&topic=b&since=00000001-0000000000000002", ""},
		{"topic=a&throttle=10000", "00000001-0000000000000002"},
		{"topic=a%0a&typo=%zz;", "junk"},
		{"topic=a&lasteventid=00000001-0000000000000002&LastEventId=", ""},
	} {
		f.Add(seed.query, seed.id)
	}
	s := &Server{config: Config{MaxTopics: 3}}
	f.Fuzz(func(t *testing.T, query, id string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: query}, Header: http.Header{}}
		if id != "" {
			r.Header.Set("Last-Event-Id", id)
		}
		req, bad := s.parseGet(r)
		requireSound(t, s, req, bad)
		if bad == nil && id != "" {
			require.True(t, req.since.Reset || req.since.All.String() == id, "an id that isn't a revision asks for a reset")
		}
	})
}

func FuzzParsePost(f *testing.F) {
	for _, body := range []string{
		`{"topics":["a","b"],"since":"00000001-0000000000000002"}`,
		`{"topics":["a"],"since_by_topic":{"a":"00000001-0000000000000002"}}`,
		`{"topics":["a"],"since_by_topic":{"b":""}} {}`,
		`{"TOPICS":["a"],"topics":null}`, `[1e999]`, "{\"topics\":[\"\xff\"]}", `{"topics":["\ud800"]}`,
	} {
		f.Add(body, "throttle=1")
	}
	s := &Server{config: Config{MaxTopics: 3, MaxBodyBytes: 10_000}}
	f.Fuzz(func(t *testing.T, body, query string) {
		r := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", "application/json")
		req, bad := s.parsePost(httptest.NewRecorder(), r)
		requireSound(t, s, req, bad)
	})
}
