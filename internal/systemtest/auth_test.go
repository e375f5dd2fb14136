package systemtest_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

const cookie = "session"

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
func byCookie(token string) http.Header {
	return http.Header{"Cookie": {"theme=dark; " + cookie + "=" + token}}
}

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	h.Set(name, value)
	return h
}

// grantsOfAuth let everybody who is known everything, and one see the metrics.
const grantsOfAuth = `rules:
  - {read: ["**"], write: ["**"]}
  - {when: claims.sub == 'prometheus', admin: true}
`

// guarded is the program, with issuers and a file of keys that say who calls.
type guarded struct {
	*child
	one, other *issuer // the other one isn't there at first
	keyFile    string
	admin      string // its address, which other machines reach, too
	log        testkit.Buffer
	tokens     []string // whatever was sent
}

func serveGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{
		one:     &issuer{addr: live.FreeAddr(t), keys: newKeys(t)},
		other:   &issuer{addr: live.FreeAddr(t), keys: newKeys(t)},
		keyFile: filepath.Join(t.TempDir(), "keys.json"),
	}
	bound, here := live.FreeAddrEverywhere(t)
	g.admin = here
	grants := filepath.Join(t.TempDir(), "grants.yaml")
	require.NoError(t, os.WriteFile(grants, []byte(grantsOfAuth), 0o600))
	g.one.up(t)
	g.writeKeys(t, newKeys(t))
	g.child = newChild(t, program(t), testkit.Migrated(t), "auth",
		"--oidc-issuer", g.one.name(), "--oidc-issuer", g.other.name(), "--jwt-keys", g.keyFile, "--jwt-audience", audience,
		"--auth-cookie", cookie, "--allowed-origin", "https://app.example.com", "--log-level", "debug", "--trusted-proxy", "127.0.0.1", "--max-auth-failures-per-address", "50", "--grants", grants, "--admin-addr", bound)
	log := g.child.log
	g.child.log = func(line string) {
		_, _ = g.log.Write([]byte(line + "\n"))
		log(line)
	}
	g.start(t)
	t.Cleanup(g.kill)
	return g
}

func (g *guarded) writeKeys(t *testing.T, keys *mockoidc.Keypair) {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: keys.PrivateKey.Public(), KeyID: keys.Kid, Use: "sig"}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(g.keyFile, text, 0o600))
}

// list asks as a client of JSON does.
func (g *guarded) list(t *testing.T, token string) answer {
	t.Helper()
	g.tokens = append(g.tokens, token)
	return send(t, http.MethodPost, g.url+messagesv1connect.MessageServiceListConversationsProcedure, "{}", bearer(token))
}

// eventually asks until it is answered as it should be.
func (g *guarded) eventually(t *testing.T, token string, want int) {
	t.Helper()
	var last answer
	require.Eventually(t, func() bool {
		last = g.list(t, token)
		return last.status == want
	}, time.Minute, 100*time.Millisecond, "want %d", want)
}

// The program as users start it, before issuers as they are: whatever is asked for,
// in whatever way, needs a token that is good.
func TestAuth(t *testing.T) {
	t.Parallel()
	g := serveGuarded(t)
	// The other issuer isn't there yet: nobody is told that its tokens are bad.
	others := g.other.token(t, "ada")
	got := g.list(t, others)
	require.Equal(t, http.StatusServiceUnavailable, got.status, got.text)
	require.Equal(t, connect.CodeUnavailable, got.code, got.text)
	g.other.up(t)
	t.Run("every way in", g.everyWayIn)
	t.Run("by cookie", g.byCookie)
	t.Run("a file of keys", g.fileOfKeys)
	t.Run("issuers come and go", g.issuersComeAndGo)
	t.Run("bad tokens without end", g.badTokensWithoutEnd)
	metrics := g.metrics(t)
	for _, want := range []string{
		`freshet_auth_refused_total{reason="none"}`, `freshet_auth_refused_total{reason="expired"}`,
		`freshet_auth_fetches_total{issuer="` + g.other.name() + `",result="failed"}`, `freshet_auth_keys_age_seconds{issuer="` + g.one.name() + `"}`,
	} {
		require.Contains(t, metrics, want)
	}
	for _, token := range g.tokens {
		for part := range strings.SplitSeq(token, ".") {
			require.True(t, len(part) < 20 || !strings.Contains(g.log.String(), part), "a token is in the log")
			require.True(t, len(part) < 20 || !strings.Contains(metrics, part), "a token is in the metrics")
		}
	}
}

func (g *guarded) metrics(t *testing.T) string {
	t.Helper()
	token := g.one.token(t, "prometheus")
	g.tokens = append(g.tokens, token)
	got := get(t, "http://"+g.admin+"/metrics", bearer(token))
	require.Equal(t, http.StatusOK, got.status, got.text)
	return got.text
}

func (g *guarded) everyWayIn(t *testing.T) {
	good := g.one.token(t, "ada")
	stranger := newKeys(t)
	stranger.Kid = g.one.keys.Kid
	const none, invalid = `Bearer realm="freshet"`, `Bearer realm="freshet", error="invalid_token", error_description="`
	for _, tt := range []struct {
		name, token string
		code        connect.Code
		challenge   string
	}{
		{"none", "", connect.CodeUnauthenticated, none},
		{"garbage", "x", connect.CodeUnauthenticated, invalid + `the token is malformed"`},
		{"unsigned", unsigned(good), connect.CodeUnauthenticated, invalid + `the token is malformed"`},
		{"signed by a stranger", sign(t, stranger, g.one.name(), "ada"), connect.CodeUnauthenticated, invalid + `the token isn't signed by a key that is known"`},
		{"expired", g.one.token(t, "ada", "exp", time.Now().Unix()-31), connect.CodeUnauthenticated, invalid + `the token has expired"`},
		{"for somebody else", g.one.token(t, "ada", "aud", "mail"), connect.CodeUnauthenticated, invalid + `the token is for somebody else"`},
		{"good", good, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := http.Header{}
			if tt.token != "" {
				header = bearer(tt.token)
				g.tokens = append(g.tokens, tt.token)
			}
			for _, d := range doors() {
				got := d.ask(t, g.url, header)
				require.Equal(t, tt.code, got.code, "%s: %+v", d.name, got)
				require.Equal(t, tt.challenge, got.challenge, d.name)
				switch {
				case tt.code == 0 || got.status == 0:
				case d.rpc:
					require.Equal(t, http.StatusOK, got.status, d.name)
				default:
					require.Equal(t, http.StatusUnauthorized, got.status, d.name)
				}
			}
			for _, path := range []string{"/", "/metrics", "/debug/pprof/", "/debug/pprof/heap", "/nothing"} {
				got := get(t, "http://"+g.admin+path, header)
				code := tt.code
				if code == 0 {
					code = connect.CodePermissionDenied // that needs a grant of its own
				}
				require.Equal(t, code, got.code, "admin%s: %+v", path, got)
				require.Equal(t, tt.challenge, got.challenge, path)
			}
		})
	}
	twice := byCookie(good)
	twice.Set("Authorization", "Bearer "+good)
	for _, d := range doors() {
		got := d.ask(t, g.url, twice)
		require.Equal(t, connect.CodeInvalidArgument, got.code, "%s: %+v", d.name, got)
	}
	// What needs nobody.
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, http.StatusOK, get(t, g.url+path, nil).status, path)
		require.Equal(t, http.StatusOK, get(t, "http://"+g.admin+path, nil).status, path)
	}
	g.metrics(t)
	require.Equal(t, http.StatusBadRequest, get(t, g.url+"/events?topic=messages&access_token="+good, nil).status, "a token in a URL")
}

// What a browser does: it sends its cookie wherever a page points it.
func (g *guarded) byCookie(t *testing.T) {
	good := g.one.token(t, "ada")
	g.tokens = append(g.tokens, good)
	const create = `{"parent":"conversations/auth","message":{"author":"ada","body":"hi"}}`
	to := g.url + messagesv1connect.MessageServiceCreateMessageProcedure
	for _, tt := range []struct {
		name   string
		header http.Header
		want   answer
	}{
		{"our own page", with(byCookie(good), "Sec-Fetch-Site", "same-origin"), answer{status: http.StatusOK}},
		{"our own page, older browser", with(byCookie(good), "Origin", g.url), answer{status: http.StatusOK}},
		{"another site", with(byCookie(good), "Sec-Fetch-Site", "cross-site"), answer{status: http.StatusForbidden, code: connect.CodePermissionDenied}},
		{"a sister", with(byCookie(good), "Sec-Fetch-Site", "same-site"), answer{status: http.StatusForbidden, code: connect.CodePermissionDenied}},
		{"another site, older browser", with(byCookie(good), "Origin", "https://evil.example"), answer{status: http.StatusForbidden, code: connect.CodePermissionDenied}},
		{"an origin that may call us, but by token", with(byCookie(good), "Origin", "https://app.example.com"), answer{status: http.StatusForbidden, code: connect.CodePermissionDenied}},
		{"the same, by token", with(bearer(good), "Origin", "https://app.example.com"), answer{status: http.StatusOK}},
		{"no token", http.Header{"Cookie": {"theme=dark"}}, answer{status: http.StatusUnauthorized, code: connect.CodeUnauthenticated}},
		{"a bad one", byCookie("x"), answer{status: http.StatusUnauthorized, code: connect.CodeUnauthenticated}},
		{"an empty one", byCookie(""), answer{status: http.StatusBadRequest, code: connect.CodeInvalidArgument}},
	} {
		got := send(t, http.MethodPost, to, create, tt.header)
		require.Equal(t, tt.want.status, got.status, "%s: %+v", tt.name, got)
		require.Equal(t, tt.want.code, got.code, tt.name)
	}
	for _, d := range doors() {
		require.Zero(t, d.ask(t, g.url, byCookie(good)).code, d.name)
	}
	// EventSource and links of other sites may read, as the cookie's SameSite lets them:
	// their pages can't see it.
	got := get(t, g.url+"/events?topic=messages", with(byCookie(good), "Sec-Fetch-Site", "same-origin"))
	require.Equal(t, http.StatusOK, got.status)
}

// The file is read again on SIGHUP: the keys that it has then are those that count.
func (g *guarded) fileOfKeys(t *testing.T) {
	const somebody = "https://elsewhere.example"
	next := newKeys(t)
	token := sign(t, next, somebody, "ada")
	require.Equal(t, http.StatusUnauthorized, g.list(t, token).status)
	g.writeKeys(t, next)
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGHUP))
	g.eventually(t, token, http.StatusOK)
	// A file that hasn't changed is told of only to whoever asks.
	const told = "were read again"
	before := strings.Count(g.log.String(), told)
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Count(g.log.String(), told) > before }, 20*time.Second, 10*time.Millisecond)

	require.NoError(t, os.WriteFile(g.keyFile, []byte("broken"), 0o600))
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(g.log.String(), "those of before are kept") }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, g.list(t, token).status)
	last := newKeys(t)
	g.writeKeys(t, last)
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGHUP))
	g.eventually(t, sign(t, last, somebody, "ada"), http.StatusOK)
	require.Equal(t, http.StatusUnauthorized, g.list(t, token).status, "its key is gone")
	// Who isn't that issuer can't speak for it.
	require.Equal(t, http.StatusUnauthorized, g.list(t, sign(t, last, g.one.name(), "ada")).status)
}

// One issuer takes another key and forgets the old one, the other one goes away, while
// a stream is open: who has a good token notices nothing.
func (g *guarded) issuersComeAndGo(t *testing.T) {
	old, others := g.one.token(t, "ada"), g.other.token(t, "ada")
	g.eventually(t, others, http.StatusOK) // it is there by now
	stream := g.open(t, others)

	g.one.rotate(t)
	g.other.down(t)
	g.eventually(t, g.one.token(t, "ada"), http.StatusOK) // by a key that isn't known: it is fetched
	require.Equal(t, http.StatusUnauthorized, g.list(t, old).status)

	before := g.other.keys
	g.other.keys = newKeys(t)
	renewed := g.other.token(t, "ada")
	g.eventually(t, renewed, http.StatusServiceUnavailable) // it may be good: nobody knows
	require.Equal(t, http.StatusOK, g.list(t, others).status, "its keys of before are kept")
	require.Equal(t, http.StatusOK, g.list(t, sign(t, before, g.other.name(), "bob")).status)
	g.other.up(t)
	g.eventually(t, renewed, http.StatusOK)

	require.Equal(t, http.StatusOK, send(t, http.MethodPost, g.url+messagesv1connect.MessageServiceCreateMessageProcedure,
		`{"parent":"conversations/auth","message":{"author":"ada","body":"hi"}}`, bearer(renewed)).status)
	for event := range stream {
		if event == "invalidate" {
			return
		}
	}
	require.Fail(t, "the stream has ended")
}

// open follows all messages; the channel has the names of events, and is closed when
// the stream ends.
func (g *guarded) open(t *testing.T, token string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, g.url+"/events?topic=messages", nil)
	require.NoError(t, err)
	req.Header = bearer(token)
	resp, err := transport(t, false).Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	events, done := make(chan string, 10_000), make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				events <- event
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, resp.Body.Close())
		<-done
	})
	return events
}
