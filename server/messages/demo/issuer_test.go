package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet/server/auth"
	"github.com/freshet-dev/freshet/server/grants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const addr = "127.0.0.1:8080"

func newIssuer(t *testing.T, addr string) *Issuer {
	t.Helper()
	i, err := New(Config{Addr: addr, KeyFile: filepath.Join(t.TempDir(), "key"), Life: time.Minute})
	require.NoError(t, err)
	return i
}

// ask sends one request; header are names and values.
func ask(t *testing.T, i *Issuer, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	i.Handler().ServeHTTP(w, r)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	return w.Result(), w.Body.String()
}

// signIn returns the Cookie header of somebody who is signed in.
func signIn(t *testing.T, i *Issuer, account string) string {
	t.Helper()
	resp, body := ask(t, i, http.MethodPost, "/demo/sign-in", "account="+account)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.Len(t, resp.Cookies(), 1)
	return resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
}

func whoIs(t *testing.T, i *Issuer, cookie string) session {
	t.Helper()
	resp, body := ask(t, i, http.MethodGet, "/demo/session", "", "Cookie", cookie)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var s session
	require.NoError(t, json.Unmarshal([]byte(body), &s))
	return s
}

func TestIssuer_cookie(t *testing.T) {
	i := newIssuer(t, addr)
	resp, body := ask(t, i, http.MethodPost, "/demo/sign-in", "account=bob")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	cookie := resp.Cookies()[0]
	require.Equal(t, Cookie, cookie.Name)
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.Equal(t, "/", cookie.Path)
	require.Empty(t, cookie.Domain)
	require.Equal(t, 60, cookie.MaxAge)
	require.NotContains(t, body, cookie.Value, "a script could read the token")

	resp, body = ask(t, i, http.MethodPost, "/demo/sign-out", "", "Cookie", Cookie+"="+cookie.Value)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, -1, resp.Cookies()[0].MaxAge)
	require.Empty(t, resp.Cookies()[0].Value)
	require.Contains(t, body, `"account":""`)
}

// The session says who is signed in, and until when; renewal goes on from a token
// that is still good.
func TestIssuer_renew(t *testing.T) {
	i := newIssuer(t, addr)
	start := time.Now()
	i.now = func() time.Time { return start }
	require.Empty(t, whoIs(t, i, "").Account)
	require.Len(t, whoIs(t, i, "").Accounts, 3)

	cookie := signIn(t, i, "bob")
	i.now = func() time.Time { return start.Add(40 * time.Second) }
	s := whoIs(t, i, cookie)
	require.Equal(t, "bob", s.Account)
	require.InDelta(t, 20_000, s.ExpiresInMS, 1000)
	require.Equal(t, int64(60_000), s.LifeMS)

	resp, _ := ask(t, i, http.MethodPost, "/demo/renew", "", "Cookie", cookie)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	fresh := Cookie + "=" + resp.Cookies()[0].Value
	i.now = func() time.Time { return start.Add(61 * time.Second) }
	require.Empty(t, whoIs(t, i, cookie).Account, "it has expired")
	require.Equal(t, "bob", whoIs(t, i, fresh).Account)
	resp, body := ask(t, i, http.MethodPost, "/demo/renew", "", "Cookie", cookie)
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	require.Contains(t, body, "nobody is signed in")
	require.Empty(t, resp.Cookies())
}

// Signing out ends one session, with all its tokens; others of the account go on, and
// whoever signs in again has a new one at once.
func TestIssuer_signOut(t *testing.T) {
	i := newIssuer(t, addr)
	start, told := time.Now(), 0
	i.now = func() time.Time { return start } // so nothing goes by the time
	i.onSignOut = func() { told++ }
	first, elsewhere := signIn(t, i, "bob"), signIn(t, i, "bob")
	resp, _ := ask(t, i, http.MethodPost, "/demo/renew", "", "Cookie", first)
	renewed := Cookie + "=" + resp.Cookies()[0].Value
	_, shell := ask(t, i, http.MethodPost, "/demo/token", "account=bob")
	_, another := ask(t, i, http.MethodPost, "/demo/token", "account=bob")

	signOut := func(cookie string) int {
		resp, _ := ask(t, i, http.MethodPost, "/demo/sign-out", "", "Cookie", cookie)
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, signOut(""))
	require.Equal(t, http.StatusOK, signOut(Cookie+"=x"))
	require.Zero(t, told, "nobody was signed in")
	require.Equal(t, http.StatusOK, signOut(renewed))
	require.Equal(t, 1, told)
	for _, cookie := range []string{first, renewed} {
		require.True(t, i.SignedOut(claimsOf(t, cookie)))
		require.Empty(t, whoIs(t, i, cookie).Account)
		resp, _ := ask(t, i, http.MethodPost, "/demo/renew", "", "Cookie", cookie)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		require.Equal(t, http.StatusOK, signOut(cookie))
	}
	require.Equal(t, 1, told, "it had ended")
	for _, other := range []string{elsewhere, "=" + shell, signIn(t, i, "bob")} {
		require.False(t, i.SignedOut(claimsOf(t, other)))
	}
	require.Equal(t, "bob", whoIs(t, i, elsewhere).Account)
	require.Equal(t, http.StatusOK, signOut(Cookie+"="+shell))
	require.False(t, i.SignedOut(claimsOf(t, "="+another)))
	require.False(t, i.SignedOut(nil))
	require.False(t, i.SignedOut(map[string]any{"sid": 7}))
}

// A session is remembered for as long as its tokens may count. When there are too many,
// signing out is refused rather than one forgotten.
func TestIssuer_signOut_bounded(t *testing.T) {
	i := newIssuer(t, addr)
	start := time.Now()
	i.now = func() time.Time { return start }
	signOut := func(cookie string) *http.Response {
		resp, _ := ask(t, i, http.MethodPost, "/demo/sign-out", "", "Cookie", cookie)
		return resp
	}
	first := signIn(t, i, "ada")
	require.Equal(t, http.StatusOK, signOut(first).StatusCode)
	for range maxSignedOut - 1 {
		require.True(t, i.signedOut.add(newSession(), start, start.Add(time.Second)))
	}
	second := signIn(t, i, "ada")
	refused := signOut(second)
	require.Equal(t, http.StatusServiceUnavailable, refused.StatusCode)
	require.Empty(t, refused.Cookies())
	require.Equal(t, "ada", whoIs(t, i, second).Account)

	i.now = func() time.Time { return start.Add(i.life + longer - 1) }
	require.Equal(t, http.StatusOK, signOut(signIn(t, i, "ada")).StatusCode)
	require.Len(t, i.signedOut.until, 2)
	require.True(t, i.SignedOut(claimsOf(t, first)), "a server whose clock is behind may take it yet")
}

// claimsOf looks into a Cookie header.
func claimsOf(t *testing.T, cookie string) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(cookie, ".")[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(text, &claims))
	return claims
}

func TestIssuer_refuses(t *testing.T) {
	i := newIssuer(t, addr)
	cookie := signIn(t, i, "ada")
	forged := signIn(t, newIssuer(t, addr), "ada") // by another key
	sessionless, err := i.token(Accounts()[0], "")
	require.NoError(t, err)
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
	}{
		{"no account", "POST", "/demo/sign-in", "", nil, 400},
		{"another account", "POST", "/demo/sign-in", "account=root", nil, 400},
		{"an account in the URL", "POST", "/demo/sign-in?account=ada", "", nil, 400},
		{"no form", "POST", "/demo/sign-in", "%zz", nil, 400},
		{"much", "POST", "/demo/sign-in", "account=" + strings.Repeat("a", 2000), nil, 413},
		{"JSON", "POST", "/demo/token", `{"account":"ada"}`, []string{"Content-Type", "application/json"}, 400},
		{"GET", "GET", "/demo/sign-in?account=ada", "", nil, 405},
		{"GET of a token", "GET", "/demo/token?account=ada", "", nil, 405},
		{"GET of renewal", "GET", "/demo/renew", "", []string{"Cookie", cookie}, 405},
		{"GET of sign-out", "GET", "/demo/sign-out", "", []string{"Cookie", cookie}, 405},
		{"another site signs in", "POST", "/demo/sign-in", "account=ada", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"the same site, another port", "POST", "/demo/renew", "", []string{"Sec-Fetch-Site", "same-site", "Cookie", cookie}, 403},
		{"another origin, an old browser", "POST", "/demo/sign-out", "", []string{"Origin", "http://127.0.0.1:3000", "Cookie", cookie}, 403},
		{"another site wants a token", "POST", "/demo/token", "account=ada", []string{"Origin", "https://evil.example"}, 403},
		{"nobody renews", "POST", "/demo/renew", "", nil, 401},
		{"a forged token", "POST", "/demo/renew", "", []string{"Cookie", forged}, 401},
		{"a token of no session", "POST", "/demo/renew", "", []string{"Cookie", Cookie + "=" + sessionless}, 401},
		{"no token at all", "POST", "/demo/renew", "", []string{"Cookie", Cookie + "=x"}, 401},
		{"our own page", "POST", "/demo/renew", "", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + addr, "Cookie", cookie}, 200},
		{"an unknown path", "GET", "/demo/", "", nil, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := ask(t, i, tt.method, tt.path, tt.body, tt.header...)
			require.Equal(t, tt.status, resp.StatusCode, body)
			if tt.status != http.StatusOK {
				require.Empty(t, resp.Cookies())
			}
			require.NotContains(t, body, "eyJ")
		})
	}
}

func TestNew_refuses(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Addr: "0.0.0.0:8080", KeyFile: key}, "can be reached from other machines"},
		{Config{Addr: ":8080", KeyFile: key}, "can be reached from other machines"},
		{Config{Addr: "demo.example:8080", KeyFile: key}, "can be reached from other machines"},
		{Config{Addr: "127.0.0.1:0", KeyFile: key}, "choose one"},
		{Config{Addr: "127.0.0.1", KeyFile: key}, "want host:port"},
		{Config{Addr: addr, KeyFile: key, Life: time.Second}, "from 2s to 24h"},
		{Config{Addr: addr, KeyFile: key, Life: 25 * time.Hour}, "from 2s to 24h"},
		{Config{Addr: addr, KeyFile: filepath.Join("/dev/null", "key")}, "the demo's key"},
	} {
		_, err := New(tt.cfg)
		require.ErrorContains(t, err, tt.want)
	}
	_, err := os.Stat(key)
	require.ErrorIs(t, err, os.ErrNotExist, "a key was made for what is refused")
}

// A restart has the same key, which nobody else can read.
func TestNew_key(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "key")
	before, err := New(Config{Addr: addr, KeyFile: path})
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)

	cookie := signIn(t, before, "ada")
	after, err := New(Config{Addr: addr, KeyFile: path})
	require.NoError(t, err)
	require.Equal(t, "ada", whoIs(t, after, cookie).Account)
	require.Equal(t, Life.Milliseconds(), whoIs(t, after, cookie).LifeMS)

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = New(Config{Addr: addr, KeyFile: path})
	require.ErrorContains(t, err, "others can read")
	for _, text := range []string{"", "{}", `{"kty":"oct","k":"c2VjcmV0"}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, 0o600))
		_, err = New(Config{Addr: addr, KeyFile: path})
		require.ErrorContains(t, err, "holds none")
	}
}

// What the server knows of the issuer is its name; what the accounts may is what
// their texts say.
func TestAccounts_byTheOrdinaryWay(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	i := newIssuer(t, listener.Addr().String())
	served := &httptest.Server{Listener: listener, Config: &http.Server{Handler: i.Handler(), ReadHeaderTimeout: time.Minute}}
	served.Start()
	defer served.Close()
	who, err := auth.New(auth.Config{Issuers: []string{i.Name()}, Audiences: []string{Audience}, Cookie: Cookie, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- who.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-ended) }()

	text, err := os.ReadFile("../grants.yaml")
	require.NoError(t, err)
	set, err := grants.Parse("grants.yaml", text)
	require.NoError(t, err)
	id := "/019f2c2e-0000-7000-8000-000000000000"
	for _, tt := range []struct {
		account     string
		read, write []string
	}{
		{"ada", []string{"list", "general", "7", "8", "announcements"}, []string{"general", "7", "8", "announcements"}},
		{"bob", []string{"general", "7", "announcements"}, []string{"general", "7"}},
		{"guest", []string{"general", "announcements"}, nil},
	} {
		resp, body := ask(t, i, http.MethodPost, "/demo/token", "account="+tt.account)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Empty(t, resp.Cookies())
		token := string(bytes.TrimSpace([]byte(body)))
		byHeader := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x.v1.X/Y", nil)
		byHeader.Header.Set("Authorization", "Bearer "+token)
		caller, err := who.Authenticate(byHeader)
		require.NoError(t, err)
		require.Equal(t, tt.account, caller.Subject)
		byCookie := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
		byCookie.Header.Set("Cookie", signIn(t, i, tt.account))
		caller, err = who.Authenticate(byCookie)
		require.NoError(t, err)
		require.Equal(t, tt.account, caller.Subject)

		may := func(action grants.Action, topic string) bool {
			err := set.Authorize(t.Context(), grants.Caller{Issuer: caller.Issuer, Subject: caller.Subject, Claims: caller.Claims}, action, []string{topic})
			if err != nil {
				require.ErrorIs(t, err, grants.ErrDenied)
			}
			return err == nil
		}
		require.Equal(t, slices.Contains(tt.read, "list"), may(grants.Read, "messages"))
		require.Equal(t, slices.Contains(tt.read, "list"), may(grants.Subscribe, "conversations/-/messages"))
		for _, conversation := range []string{"general", "7", "8", "announcements"} {
			topic := "conversations/" + conversation + "/messages"
			require.Equal(t, slices.Contains(tt.read, conversation), may(grants.Read, topic), "%s reads %s", tt.account, topic)
			require.Equal(t, slices.Contains(tt.read, conversation), may(grants.Subscribe, topic+id))
			require.Equal(t, slices.Contains(tt.write, conversation), may(grants.Write, topic), "%s writes %s", tt.account, topic)
			require.Equal(t, slices.Contains(tt.write, conversation), may(grants.Write, topic+id))
		}
		account, _ := accountOf(tt.account)
		if slices.Contains(tt.read, "list") {
			require.Empty(t, account.Conversations)
		} else {
			require.Equal(t, tt.read, account.Conversations)
		}
	}
}
