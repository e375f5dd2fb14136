package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func TestEvents_fromHeadersToGoodbye(t *testing.T) {
	for _, via := range transports {
		t.Run(string(via), func(t *testing.T) {
			s := newSite(t, via, Config{Contract: "c0ffee"})
			r := s.get(t, topicsQuery("conversations/7/messages", "messages", "messages"), nil)
			require.Equal(t, via == h2c || via == h2tls, r.res.ProtoMajor == 2)
			for name, want := range map[string]string{
				"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform",
				"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff",
			} {
				require.Equal(t, want, r.res.Header.Get(name), name)
			}
			first := r.next()
			require.Equal(t, "ready", first.kind)
			require.True(t, first.retry >= 400 && first.retry < 1200, "%d", first.retry)
			p := decode(t, first)
			require.Equal(t, at(100).String(), p.Revision)
			require.Equal(t, float64(2), p.Topics)
			require.Equal(t, 15000, p.HeartbeatMS)
			require.Equal(t, "c0ffee", p.Contract)
			s.publish(110, "messages", "elsewhere")
			live := r.next()
			require.Equal(t, "invalidate", live.kind)
			require.Zero(t, live.retry, "retry is said once")
			require.Equal(t, at(110).String(), live.lastID)

			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			require.NoError(t, s.server.Shutdown(ctx, 0))
			bye := r.next()
			require.Equal(t, "frontier", bye.kind)
			require.GreaterOrEqual(t, bye.retry, 1000)
			_, more := <-r.events
			require.False(t, more)
			_, err := r.res.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "a clean close")

			refused := s.get(t, topicsQuery("messages"), nil)
			require.Equal(t, http.StatusServiceUnavailable, refused.res.StatusCode)
			require.Equal(t, "1", refused.res.Header.Get("Retry-After"))
		})
	}
}

// Neither the server's own timeouts end a stream, nor the deadline of a frame
// that has long been sent (HTTP/2 resets a stream when its deadline passes).
func TestEvents_outliveTheServersTimeouts(t *testing.T) {
	for _, via := range transports {
		t.Run(string(via), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, via, Config{Heartbeat: serverTimeout + 500*time.Millisecond, WriteTimeout: time.Second})
			r := s.get(t, topicsQuery("a"), nil)
			r.expect("ready", at(100))
			p := r.expect("frontier", at(100))
			require.NotNil(t, p.LagMS)
			r.expect("frontier", at(100))
			s.publish(110, "a")
			r.expect("invalidate", at(110), "a")
		})
	}
}

// F13: who comes from a node that is further waits until this one has come as far: it
// isn't told again what it knows, and no id goes back.
func TestEvents_F13_fromANodeThatIsFurther(t *testing.T) {
	s := newSite(t, h1, Config{InsertPosition: func(context.Context) (freshet.Revision, error) { return at(500), nil }})
	s.publish(110, "a")
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for s.hub.Stats().Waiters == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		s.publish(120, "b") // which it was told
	})
	t.Cleanup(publishing.Wait)
	r := s.get(t, topicsQuery("a", "b"), http.Header{"Last-Event-Id": {at(120).String()}})
	r.expect("ready", at(120))
	s.publish(130, "a")
	r.expect("invalidate", at(130), "a")
}

// F13: whatever a client comes back with, it is told what it missed, or to
// start over; never nothing.
func TestEvents_reconnect(t *testing.T) {
	for _, via := range []transport{h1, h1own} {
		t.Run(string(via), func(t *testing.T) { testReconnect(t, via) })
	}
}

func testReconnect(t *testing.T, via transport) {
	t.Helper()
	insert := func(context.Context) (freshet.Revision, error) { return at(500), nil }
	s := newSite(t, via, Config{InsertPosition: insert})
	s.publish(110, "a")
	s.publish(120, "b")
	s.publish(130, "x")
	other := func(epoch freshet.Epoch) string { return freshet.Revision{Epoch: epoch, Position: 1}.String() }
	quoted := func(rev freshet.Revision) string { return `"` + rev.String() + `"` }
	for name, test := range map[string]struct {
		id, query, body string
		want            string
	}{
		"no id":                            {want: "ready"},
		"id of this epoch":                 {id: at(115).String(), want: "invalidate b"},
		"id replaces since":                {id: at(120).String(), query: "&since=" + at(100).String(), want: "ready"},
		"since of this epoch":              {query: "&since=" + at(100).String(), want: "invalidate a,b"},
		"id below the horizon":             {id: at(50).String(), want: "invalidate a,b"},
		"id at the frontier":               {id: at(130).String(), want: "ready"},
		"id above ours, not the primary's": {id: at(500).String(), want: "ready"},
		"id from the future":               {id: at(501).String(), want: "reset"},
		"id garbage":                       {id: "1234", want: "reset"},
		"id doubled":                       {id: at(115).String() + ", " + at(115).String(), want: "reset"},
		"id of an older epoch":             {id: other(6), want: "reset"},
		"id of another database":           {id: other(9), want: "reset"},
		"since from the future":            {query: "&since=" + at(501).String(), want: "reset"},
		"since of an older epoch":          {query: "&since=" + other(6), want: "reset"},
		"post":                             {body: `{"topics":["a","b"]}`, want: "ready"},
		"post since":                       {body: `{"topics":["a","b"],"since":` + quoted(at(115)) + `}`, want: "invalidate b"},
		"post since by topic":              {body: `{"topics":["a","b"],"since_by_topic":{"a":` + quoted(at(100)) + `}}`, want: "invalidate a"},
		"post since and by topic":          {body: `{"topics":["a","b"],"since":` + quoted(at(100)) + `,"since_by_topic":{"a":""}}`, want: "invalidate b"},
		"post future by topic":             {body: `{"topics":["a","b"],"since_by_topic":{"a":` + quoted(at(900)) + `}}`, want: "reset"},
		"post foreign by topic":            {body: `{"topics":["a","b"],"since":` + quoted(at(100)) + `,"since_by_topic":{"a":"` + other(6) + `"}}`, want: "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			var r *reader
			if test.body != "" {
				r = s.post(t, "?throttle=50", test.body)
			} else {
				header := http.Header{}
				if test.id != "" {
					header.Set("Last-Event-ID", test.id)
				}
				r = s.get(t, topicsQuery("a", "b")+test.query, header)
			}
			require.Equal(t, http.StatusOK, r.res.StatusCode)
			switch kind, topics, _ := strings.Cut(test.want, " "); kind {
			case "invalidate":
				e := r.next()
				require.Equal(t, "invalidate", e.kind)
				require.ElementsMatch(t, strings.Split(topics, ","), decode(t, e).list)
			case "reset":
				require.Equal(t, "epoch", r.expect("reset", at(130)).Reason)
			}
			r.expect("ready", at(130))
			r.close()
		})
	}
}

func TestEvents_longListsAreSplit(t *testing.T) {
	for _, via := range []transport{h1, h2c} {
		t.Run(string(via), func(t *testing.T) { testLongListsAreSplit(t, via) })
	}
}

func testLongListsAreSplit(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via, Config{})
	topics := make([]string, 1000)
	for i := range topics {
		topics[i] = fmt.Sprintf("%0*d", freshet.MaxTopicBytes, i)
	}
	body, err := json.Marshal(map[string]any{"topics": topics})
	require.NoError(t, err)
	r := s.post(t, "", string(body))
	r.expect("ready", at(100))
	s.publish(110, topics...)
	var got []string
	for {
		e := r.next()
		require.Equal(t, "invalidate", e.kind)
		got = append(got, decode(t, e).list...)
		if e.hasID {
			require.Equal(t, at(110).String(), e.lastID)
			break
		}
		require.Equal(t, at(100).String(), e.lastID, "a part raises no id")
	}
	require.ElementsMatch(t, topics, got)
}

// F16: what is written right after ready is told.
func TestEvents_writeRightAfterReady(t *testing.T) {
	for _, via := range []transport{h1, h2c} {
		t.Run(string(via), func(t *testing.T) { testWriteRightAfterReady(t, via) })
	}
}

func testWriteRightAfterReady(t *testing.T, via transport) {
	t.Helper()
	repeats := 10_000
	if via == h1 {
		repeats = 2000 // each a connection, whose port isn't free for a minute
	}
	s := newSite(t, via, Config{})
	p := uint64(100)
	for i := range repeats {
		req, err := http.NewRequest(http.MethodGet, s.url+"/events?topic=a", nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		res, err := s.client.Do(req.WithContext(ctx))
		require.NoError(t, err)
		in := bufio.NewReader(res.Body)
		readUntil(t, in, "event: ready")
		readUntil(t, in, "\n")
		p++
		s.publish(p, "a")
		readUntil(t, in, "id: "+at(p).String())
		readUntil(t, in, "event: invalidate")
		cancel()
		_ = res.Body.Close()
		if t.Failed() {
			t.Fatalf("at repeat %d", i)
		}
	}
}

func readUntil(t testing.TB, in *bufio.Reader, want string) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		if strings.HasPrefix(line, want) {
			return
		}
	}
}

// F15: a write that races a subscription, on real connections: every reader ends
// at the last revision, and no frame's id leaves before a change.
func TestEvents_writesRaceSubscriptions(t *testing.T) {
	for _, via := range []transport{h1, h2c} {
		t.Run(string(via), func(t *testing.T) { testWritesRaceSubscriptions(t, via) })
	}
}

func testWritesRaceSubscriptions(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via, Config{Heartbeat: 200 * time.Millisecond})
	opened, written := make(chan struct{}), make(chan uint64)
	go func() {
		for p := uint64(101); ; p++ {
			s.publish(p, "a", "b")
			select {
			case <-opened:
				s.publish(p+1, "a")
				written <- p + 1
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	var open []*reader
	var ids []string
	since := ""
	for len(open) < 60 {
		r := s.get(t, "?topic=a&throttle=5"+since, nil)
		e := r.next()
		since = "&since=" + e.lastID
		open, ids = append(open, r), append(ids, e.lastID)
	}
	close(opened)
	want := at(<-written).String()
	for i, r := range open {
		for id := ids[i]; id != want; {
			e := r.next()
			require.GreaterOrEqual(t, e.lastID, id)
			id = e.lastID
			require.True(t, id != want || e.kind == "invalidate", "the last id came without its change: %+v", e)
		}
	}
}
