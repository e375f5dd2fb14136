package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/server/messages/demo"
)

// browser has a cookie jar of its own.
type browser struct {
	http *http.Client
	url  string
}

func newBrowser(t *testing.T, url string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{&http.Client{Jar: jar, Transport: transport}, url}
}

func (b *browser) send(t *testing.T, method, path, kind, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), method, b.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", kind)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func (b *browser) form(t *testing.T, path, body string) (int, string) {
	t.Helper()
	return b.send(t, http.MethodPost, path, "application/x-www-form-urlencoded", body, "Origin", b.url, "Sec-Fetch-Site", "same-origin")
}

func (b *browser) call(t *testing.T, procedure, body string, header ...string) (int, string) {
	t.Helper()
	return b.send(t, http.MethodPost, "/messages.v1.MessageService/"+procedure, "application/json", body, header...)
}

func (b *browser) list(t *testing.T, conversation string) (int, string) {
	t.Helper()
	return b.call(t, "ListMessages", `{"parent":"conversations/`+conversation+`"}`)
}

func (b *browser) say(t *testing.T, conversation, text string, header ...string) (int, string) {
	t.Helper()
	return b.call(t, "CreateMessage", `{"parent":"conversations/`+conversation+`","message":{"author":"x","body":"`+text+`"}}`, header...)
}

// token is what the browser has in its cookie.
func (b *browser) token(t *testing.T) string {
	t.Helper()
	at, err := url.Parse(b.url)
	require.NoError(t, err)
	for _, cookie := range b.http.Jar.Cookies(at) {
		if cookie.Name == demo.Cookie {
			return cookie.Value
		}
	}
	require.FailNow(t, "nobody is signed in")
	return ""
}

// events is an open stream.
type events struct {
	lines *bufio.Scanner
	close func()
}

// follow opens a stream of a conversation, and reads until it is ready.
func (b *browser) follow(t *testing.T, conversation string, header ...string) *events {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, b.url+"/events?topic=conversations/"+conversation+"/messages", nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(req)
	require.NoError(t, err)
	e := &events{bufio.NewScanner(resp.Body), func() { _ = resp.Body.Close() }}
	t.Cleanup(e.close)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	e.until(t, "ready")
	return e
}

// until reads up to an event, and returns the line after its name.
func (e *events) until(t *testing.T, event string) string {
	t.Helper()
	for e.lines.Scan() {
		if e.lines.Text() == "event: "+event {
			require.True(t, e.lines.Scan())
			return e.lines.Text()
		}
	}
	require.FailNow(t, "the stream ended without "+event, e.lines.Err())
	return ""
}

// The three accounts see and do what each may, by a cookie or by a token, over RPC
// and stream; a restart signs nobody out; nothing of it is there without the flag.
func TestServe_demoAuth(t *testing.T) {
	args := []string{"--demo-auth", "--addr=" + live.FreeAddr(t), "--data-dir=" + t.TempDir(), "--database-url=" + testkit.Migrated(t)}
	p := startProgram(t, args...)
	require.NotContains(t, p.log.String(), "level=WARN", "the keys were fetched before the port was open")

	nobody := newBrowser(t, p.url)
	status, page := nobody.send(t, http.MethodGet, "/", "", "")
	require.Equal(t, http.StatusOK, status, "who isn't signed in has to see the page")
	if !strings.Contains(page, "built without its page") {
		require.Contains(t, page, `<meta name="freshet-sign-in" content="/demo/">`)
	}
	status, _ = nobody.list(t, "announcements")
	require.Equal(t, http.StatusUnauthorized, status)

	in := map[string]*browser{}
	for _, account := range demo.Accounts() {
		b := newBrowser(t, p.url)
		status, body := b.form(t, "/demo/sign-in", "account="+account.Subject)
		require.Equal(t, http.StatusOK, status, body)
		in[account.Subject] = b
	}
	const ok, no = http.StatusOK, http.StatusForbidden
	for _, tt := range []struct {
		account                               string
		all, general, seven, eight, announced int
		writesGeneral, writesEight            int
	}{
		{"ada", ok, ok, ok, ok, ok, ok, ok},
		{"bob", no, ok, ok, no, ok, ok, no},
		{"guest", no, ok, no, no, ok, no, no},
	} {
		b := in[tt.account]
		for conversation, want := range map[string]int{"-": tt.all, "general": tt.general, "7": tt.seven, "8": tt.eight, "announcements": tt.announced} {
			status, body := b.list(t, conversation)
			require.Equal(t, want, status, "%s lists %s: %s", tt.account, conversation, body)
		}
		status, _ := b.call(t, "ListConversations", "{}")
		require.Equal(t, tt.all, status, tt.account)
		status, _ = b.say(t, "general", "hello")
		require.Equal(t, tt.writesGeneral, status, tt.account)
		status, _ = b.say(t, "8", "hello")
		require.Equal(t, tt.writesEight, status, tt.account)
	}

	// A stream tells what is granted, and none begins for what isn't.
	status, _ = in["bob"].send(t, http.MethodGet, "/events?topic=conversations/8/messages", "", "")
	require.Equal(t, http.StatusForbidden, status)
	stream := in["bob"].follow(t, "7")
	status, _ = in["ada"].say(t, "8", "not for bob")
	require.Equal(t, http.StatusOK, status)
	status, _ = in["ada"].say(t, "7", "for bob")
	require.Equal(t, http.StatusOK, status)
	told := stream.until(t, "invalidate")
	require.Contains(t, told, "conversations/7/messages")
	require.NotContains(t, told, "conversations/8")

	// By cookie, another site writes nothing; by token, who has it.
	status, _ = in["ada"].say(t, "7", "forged", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, status)
	_, token := nobody.form(t, "/demo/token", "account=guest")
	status, _ = nobody.call(t, "ListMessages", `{"parent":"conversations/general"}`, "Authorization", "Bearer "+strings.TrimSpace(token))
	require.Equal(t, http.StatusOK, status)
	status, _ = nobody.list(t, "general")
	require.Equal(t, http.StatusUnauthorized, status, "a token is no session")

	status, _ = in["guest"].form(t, "/demo/sign-out", "")
	require.Equal(t, http.StatusOK, status)
	status, _ = in["guest"].list(t, "general")
	require.Equal(t, http.StatusUnauthorized, status)

	stream.close()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	<-p.done
	require.NotContains(t, p.log.String(), "eyJ", "a token is in the log")
	startProgram(t, args...)
	status, _ = in["bob"].list(t, "7")
	require.Equal(t, http.StatusOK, status, "a restart has signed bob out")
	status, _ = in["bob"].form(t, "/demo/renew", "")
	require.Equal(t, http.StatusOK, status)
}

// Signing out ends the streams of that session, whichever of its tokens they came with,
// and no token of it opens another. Nothing else asks about streams here. The account's
// other browsers go on, and it can sign in again at once.
func TestServe_demoAuth_signOut(t *testing.T) {
	p := startProgram(t, "--demo-auth", "--reauthorize=0", "--addr="+live.FreeAddr(t), "--data-dir="+t.TempDir(), "--database-url="+testkit.Migrated(t))
	out, elsewhere, nobody := newBrowser(t, p.url), newBrowser(t, p.url), newBrowser(t, p.url)
	signIn := func(b *browser) {
		status, body := b.form(t, "/demo/sign-in", "account=bob")
		require.Equal(t, http.StatusOK, status, body)
	}
	signIn(out)
	signIn(elsewhere)
	copied := []string{"Bearer " + out.token(t)}
	status, _ := out.form(t, "/demo/renew", "")
	require.Equal(t, http.StatusOK, status)
	copied = append(copied, "Bearer "+out.token(t))
	_, shell := nobody.form(t, "/demo/token", "account=bob")

	end := []*events{out.follow(t, "7"), nobody.follow(t, "7", "Authorization", copied[0]), nobody.follow(t, "7", "Authorization", copied[1])}
	stay := []*events{elsewhere.follow(t, "7"), nobody.follow(t, "7", "Authorization", "Bearer "+strings.TrimSpace(shell))}
	at := time.Now()
	status, _ = out.form(t, "/demo/sign-out", "")
	require.Equal(t, http.StatusOK, status)
	for _, stream := range end {
		require.Equal(t, `data: {"reason":"denied"}`, stream.until(t, "end"))
	}
	t.Logf("three streams ended %v after the sign-out was sent", time.Since(at))
	for _, token := range copied {
		status, _ = nobody.call(t, "ListMessages", `{"parent":"conversations/announcements"}`, "Authorization", token)
		require.Equal(t, http.StatusForbidden, status)
		status, _ = nobody.send(t, http.MethodGet, "/events?topic=conversations/7/messages", "", "", "Authorization", token)
		require.Equal(t, http.StatusForbidden, status)
	}
	status, _ = out.list(t, "7")
	require.Equal(t, http.StatusUnauthorized, status)

	signIn(out)
	stay = append(stay, out.follow(t, "7"))
	status, body := out.say(t, "7", "here again")
	require.Equal(t, http.StatusOK, status, body)
	for _, stream := range stay {
		require.Contains(t, stream.until(t, "invalidate"), "conversations/7/messages")
	}
}

// Nor does a token of a session that has ended open the admin port.
func TestDemoAuth_signedOut_administers(t *testing.T) {
	c := &serveCmd{DemoAuth: true, Addr: live.FreeAddr(t), DataDir: t.TempDir()}
	d, err := c.openDemo(t.Context(), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	f := front.Config{Administer: func(context.Context, server.Principal) error { return nil }}
	d.serve(&f)
	at := httptest.NewServer(d.issuer.Handler())
	defer at.Close()
	b := newBrowser(t, at.URL)
	status, _ := b.form(t, "/demo/sign-in", "account=ada")
	require.Equal(t, http.StatusOK, status)
	claims, err := claimsOf(b.token(t))
	require.NoError(t, err)
	var who server.Principal
	require.NoError(t, json.Unmarshal(claims, &who.Claims))
	require.NoError(t, f.Administer(t.Context(), who))
	status, _ = b.form(t, "/demo/sign-out", "")
	require.Equal(t, http.StatusOK, status)
	require.ErrorIs(t, f.Administer(t.Context(), who), server.ErrDenied)
}

// What was withdrawn from the accounts stays so at the next start, also at one that fails
// while another server goes by the same file.
func TestDemoAuth_keepsGrants(t *testing.T) {
	data := t.TempDir()
	open := func() string {
		t.Helper()
		c := &serveCmd{DemoAuth: true, Addr: live.FreeAddr(t), DataDir: data}
		_, err := c.openDemo(t.Context(), slog.New(slog.DiscardHandler), nil)
		require.NoError(t, err)
		grants, err := os.ReadFile(c.Grants)
		require.NoError(t, err)
		return string(grants)
	}
	require.Equal(t, string(messages.Grants), open())
	require.NoError(t, os.WriteFile(filepath.Join(data, "demo-grants.yaml"), []byte("rules: []\n"), 0o600))
	require.Equal(t, "rules: []\n", open())
}

// Without the flag there is no issuer, and the page is that of before.
func TestServe_withoutDemoAuth(t *testing.T) {
	p := startProgram(t, "--database-url="+testkit.Migrated(t))
	b := newBrowser(t, p.url)
	status, page := b.send(t, http.MethodGet, "/", "", "")
	require.Equal(t, http.StatusOK, status)
	require.NotContains(t, page, "sign-in")
	status, _ = b.send(t, http.MethodGet, "/demo/session", "", "")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = b.form(t, "/demo/sign-in", url.Values{"account": {"ada"}}.Encode())
	require.Equal(t, http.StatusMethodNotAllowed, status, "the page has no such file")
	status, _ = b.list(t, "8")
	require.Equal(t, http.StatusOK, status)
}

// config check says the same as serve, and makes nothing.
func TestServe_demoAuth_refused(t *testing.T) {
	data, untouched := t.TempDir(), t.TempDir()
	key := filepath.Join(t.TempDir(), "demo-key.json")
	require.NoError(t, os.WriteFile(key, []byte("{}"), 0o600))
	for flags, want := range map[string]string{
		"--addr=0.0.0.0:8080":                          "can be reached from other machines",
		"--addr=0.0.0.0:8080 --insecure":               "can be reached from other machines",
		"--addr=127.0.0.1:0":                           "choose one",
		"--oidc-issuer=https://id.example.com":         "leave out --oidc-issuer",
		"--jwt-keys=keys.pem":                          "leave out --oidc-issuer",
		"--jwt-audience=tasks":                         "leave out --oidc-issuer",
		"--auth-cookie=token":                          "leave out --oidc-issuer",
		"--auth-anonymous":                             "leave out --oidc-issuer",
		"--host=app.example.com":                       "leave out --host",
		"--trusted-proxy=10.0.0.0/8":                   "leave out --host",
		"--demo-token-life=1s":                         "from 2s to 24h",
		"--tls-cert=a.pem --tls-key=a.pem":             "leave out --tls-cert",
		"--grants=" + filepath.Join(data, "none.yaml"): "--grants: want a grants file",
		"--data-dir=" + filepath.Dir(key):              "remove the file, and a new one is made",
	} {
		given := append([]string{"--demo-auth", "--database-url=postgres://x", "--admin-addr="}, strings.Fields(flags)...)
		code, _, stderr := runs(t, append([]string{"config", "check", "--data-dir=" + untouched}, given...)...)
		require.Equal(t, exitFailed, code, flags)
		require.Contains(t, stderr, want, flags)
		code, _, stderr = runs(t, append([]string{"serve", "--data-dir=" + data}, given...)...)
		if strings.HasPrefix(flags, "--grants") { // somebody may put a file there
			require.Equal(t, exitFailed, code, flags)
		} else {
			require.Equal(t, exitUsage, code, flags)
		}
		require.Contains(t, stderr, want, flags)
	}
	for _, fine := range []string{"--demo-auth", "--demo-auth --grants=" + openGrantsFile(t)} {
		code, _, stderr := runs(t, append([]string{"config", "check", "--database-url=postgres://x", "--data-dir=" + untouched}, strings.Fields(fine)...)...)
		require.Equal(t, exitOK, code, stderr)
	}
	entries, err := os.ReadDir(untouched)
	require.NoError(t, err)
	require.Empty(t, entries)
}
