package server_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// sample is how long requests took: one and the other of each pair, one right after the
// other, in an order that is drawn.
type sample struct{ there, absent []time.Duration }

// different reports whether the two can be told apart by their times: by a sign test
// over the pairs. If there is nothing to see, half of them go either way, and a z beyond
// 5 comes once in two million samples.
func (s sample) different() (z float64, is bool) {
	slower := 0
	for i, there := range s.there {
		if there > s.absent[i] {
			slower++
		}
	}
	n := float64(len(s.there))
	z = (2*float64(slower) - n) / math.Sqrt(n)
	return z, math.Abs(z) > 5
}

func (s sample) String() string {
	median := func(d []time.Duration) time.Duration {
		d = slices.Sorted(slices.Values(d))
		return d[len(d)/2]
	}
	return fmt.Sprintf("medians %v and %v", median(s.there), median(s.absent))
}

// deadlines is a recorder on which a stream could begin.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }

// time measures requests of somebody without a grant at the handler: a network only
// adds noise to that.
func (g *granted) time(t *testing.T, pairs int, there, absent func() *http.Request) sample {
	t.Helper()
	once := func(r *http.Request) time.Duration {
		identity("eve").set(r.Header)
		w := deadlines{httptest.NewRecorder()}
		begin := time.Now()
		g.web.Config.Handler.ServeHTTP(w, r.WithContext(g.ctx))
		took := time.Since(begin)
		require.Equal(t, http.StatusForbidden, w.Code)
		require.Contains(t, w.Body.String(), `"code":"permission_denied"`)
		return took
	}
	for range 50 { // warm
		once(there())
		once(absent())
	}
	var s sample
	for range pairs {
		var a, b time.Duration
		if rand.N(2) == 0 {
			a, b = once(there()), once(absent())
		} else {
			b, a = once(absent()), once(there())
		}
		s.there, s.absent = append(s.there, a), append(s.absent, b)
	}
	return s
}

// Who has no grant can't tell a topic or a row from one that isn't there by how long the
// answer takes either: not by a read, whose answer is kept, by a 304, a write, nor a
// stream. The same measurement sees a single query (G8).
func TestAuthorize_timing(t *testing.T) {
	g := startGranted(t, testkit.Migrated(t))
	there := insert(t, g.ctx, testkit.Conn(t, g.bare.database), "one")
	absent := there[:len(there)-4] + "0000"
	head, err := g.as("mod").GetMessage(g.ctx, request(&messagesv1.GetMessageRequest{Name: there}, freshet.Revision{}))
	require.NoError(t, err, "it is there, and kept")
	at := stamp(t, head.Header()).String()
	_, err = g.as("mod").ListMessages(g.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/one"}, stamp(t, head.Header())))
	require.NoError(t, err)
	post := func(target, format string) func(name string) *http.Request {
		return func(name string) *http.Request {
			r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(fmt.Sprintf(format, name)))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(intercept.HeaderAtLeast, at)
			return r
		}
	}
	get := func(target func(name string) string) func(name string) *http.Request {
		return func(name string) *http.Request {
			r := httptest.NewRequest(http.MethodGet, target(name), nil)
			r.Header.Set("If-None-Match", "*")
			return r
		}
	}
	for name, tt := range map[string]struct {
		request       func(string) *http.Request
		there, absent string
	}{
		"read":             {post(service+"GetMessage", `{"name":%q}`), there, absent},
		"list":             {post(service+"ListMessages", `{"parent":%q}`), "conversations/one", "conversations/ten"},
		"GET":              {get(func(name string) string { return getTarget(t, name) }), there, absent},
		"write":            {post(service+"DeleteMessage", `{"name":%q}`), there, absent},
		"stream of a row":  {get(func(name string) string { return "/events?topic=" + url.QueryEscape(name) }), there, absent},
		"stream of a list": {post("/events", `{"topics":["%s/messages"],"since":"`+at+`"}`), "conversations/one", "conversations/ten"},
	} {
		t.Run(name, func(t *testing.T) {
			s := g.time(t, 5000, func() *http.Request { return tt.request(tt.there) }, func() *http.Request { return tt.request(tt.absent) })
			z, different := s.different()
			t.Logf("z = %.1f, %v", z, s)
			require.False(t, different, "z = %.1f, %v", z, s)
		})
	}
}

// The measurement of TestAuthorize_timing, of a server that looks for a row before it
// denies.
func TestAuthorize_timingSeesAQuery(t *testing.T) {
	database := testkit.Migrated(t)
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	name := insert(t, t.Context(), testkit.Conn(t, database), "one")
	g := &granted{bare: embedBehind(t, server.Config{DatabaseURL: database, Authorize: func(ctx context.Context, _ server.Principal, _ server.Action, topics []string) error {
		if topics[0] != name {
			return server.ErrDenied
		}
		var id string
		if err := pool.QueryRow(ctx, `select id::text from messages where conversation = 'one'`).Scan(&id); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return server.ErrDenied
	}}, intercept.RequestID).live(t)}
	ask := func(name string) func() *http.Request {
		return func() *http.Request { return httptest.NewRequest(http.MethodGet, getTarget(t, name), nil) }
	}
	s := g.time(t, 1000, ask(name), ask(name[:len(name)-4]+"0000"))
	z, different := s.different()
	require.True(t, different, "z = %.1f, %v", z, s)
}
