package front_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

// onlyAdaAdministers is a grant.
func onlyAdaAdministers(_ context.Context, who server.Principal) error {
	switch who.Subject {
	case "ada":
		return nil
	case "oracle":
		return errors.New("the oracle is asleep")
	}
	return server.ErrDenied
}

// callers are known by their names; who sends none is nobody, but may come in.
func callers(r *http.Request) (server.Principal, error) {
	switch name := r.Header.Get("Authorization"); name {
	case "":
		return server.Principal{}, nil
	case "Bearer bob", "Bearer oracle":
		return server.Principal{Subject: name[len("Bearer "):]}, nil
	}
	return onlyAda(r)
}

var adminPaths = []string{"/", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap?debug=1", "/debug/pprof/symbol", "/debug/pprof/trace?seconds=0.001", "/hot?for=1ms"}

// Where other machines reach the admin port it takes a token, and a grant of its own;
// health doesn't, but says no more than on the main port.
func TestRun_adminBeyondLoopback(t *testing.T) {
	bound, here := live.FreeAddrEverywhere(t)
	log := new(testkit.Buffer)
	r := start(t, func(c *live.Config) {
		c.Authenticate, c.Front.Authenticated = callers, true
		c.Front.AdminAddr, c.Front.Administer = bound, onlyAdaAdministers
		c.Front.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	ask := adminAsker(t, r, "http://"+here, r.http)
	for _, path := range append(adminPaths, "/nothing") {
		for _, tt := range []struct {
			who       string
			want      int
			challenge string
		}{
			{"", http.StatusUnauthorized, `Bearer realm="freshet"`},
			{"eve", http.StatusUnauthorized, "Bearer"},
			{"bob", http.StatusForbidden, ""},
			{"oracle", http.StatusServiceUnavailable, ""},
		} {
			resp, text := ask(path, tt.who)
			require.Equal(t, tt.want, resp.StatusCode, "%s as %q: %s", path, tt.who, text)
			require.Equal(t, tt.challenge, resp.Header.Get("WWW-Authenticate"), path)
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), path)
			require.NotContains(t, text, "asleep")
		}
		want := http.StatusOK
		if path == "/nothing" {
			want = http.StatusNotFound
		}
		resp, text := ask(path, "ada")
		require.Equal(t, want, resp.StatusCode, "%s: %s", path, text)
	}
	require.Contains(t, log.String(), "the oracle is asleep")
	for _, who := range []string{"", "ada"} {
		resp, _ := ask("/healthz", who)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		resp, text := ask("/readyz", who)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "ready\n", text)
	}
	resp, _ := ask("/readyz", "bob")
	require.Equal(t, http.StatusForbidden, resp.StatusCode, "the details are for those who may")

	// Not ready any more: why, in a word.
	r.Node.Retire()
	resp, text := ask("/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "not ready: stopping\n", text)
	_, text = ask("/readyz", "ada")
	require.Regexp(t, `^not ready: stopping: .`, text)
}

// At this machine nobody is asked, nor with Insecure.
func TestRun_adminIsOpen(t *testing.T) {
	for name, insecure := range map[string]bool{"loopback": false, "insecure": true} {
		t.Run(name, func(t *testing.T) {
			bound, here := live.FreeAddrEverywhere(t)
			if !insecure {
				bound = here
			}
			r := start(t, func(c *live.Config) {
				c.Authenticate, c.Front.Authenticated, c.Front.Insecure = onlyAda, true, insecure
				c.Front.AdminAddr, c.Front.Administer = bound, onlyAdaAdministers
			})
			ask := adminAsker(t, r, "http://"+here, r.http)
			for _, path := range append(adminPaths, "/healthz", "/readyz") {
				resp, text := ask(path, "")
				require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", path, text)
			}
		})
	}
}

// One measures at a time, for no longer than is said, and stops with who has asked.
func TestRun_hotBounds(t *testing.T) {
	admin := live.FreeAddr(t)
	r := start(t, func(c *live.Config) { c.Front.AdminAddr = admin })
	ask := adminAsker(t, r, "http://"+admin, r.http)
	for _, query := range []string{"for=0s", "for=-1s", "for=6m", "for=long", "top=0", "top=1001", "top=x"} {
		resp, text := ask("/hot?"+query, "")
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, text)
		require.Contains(t, text, "want")
	}
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil { // until nobody else does
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/hot?for=5m", http.NoBody)
			if resp, err := r.http.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	}()
	busy := func() bool {
		resp, _ := ask("/hot?for=1ns", "")
		return resp.StatusCode == http.StatusConflict && resp.Header.Get("Retry-After") != ""
	}
	require.Eventually(t, busy, 30*time.Second, 5*time.Millisecond)
	cancel()
	<-ended
	require.Eventually(t, func() bool { return !busy() }, 30*time.Second, 5*time.Millisecond)
	resp, text := ask("/hot?for=1ms&top=1", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Regexp(t, `^\{"window_ms":\d+,"replaced":0,"topics":\[\]\}`, text)
}

// A token doesn't come in the clear where there is a certificate.
func TestRun_adminByTLS(t *testing.T) {
	bound, here := live.FreeAddrEverywhere(t)
	r, pair := startTLS(t, func(c *live.Config) {
		c.Authenticate, c.Front.Authenticated = onlyAda, true
		c.Front.AdminAddr, c.Front.Administer = bound, onlyAdaAdministers
	})
	resp, _ := adminAsker(t, r, "https://"+here, trusting(t, pair, false))("/metrics", "ada")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	resp, _ = adminAsker(t, r, "http://"+here, new(http.Client))("/metrics", "ada")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func adminAsker(t *testing.T, r *running, base string, client *http.Client) func(path, who string) (*http.Response, string) {
	return func(path, who string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, base+path, nil)
		require.NoError(t, err)
		if who != "" {
			req.Header.Set("Authorization", "Bearer "+who)
		}
		resp, err := client.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp, string(text)
	}
}
