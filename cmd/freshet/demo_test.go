package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
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

// The three accounts see and do what each may, by a cookie or by a token, over RPC
// and stream; a restart signs nobody out; nothing of it is there without the flag.
func TestServe_demoAuth(t *testing.T) {
	args := []string{"--demo-auth", "--addr=" + live.FreeAddr(t), "--data-dir=" + t.TempDir(), "--database-url=" + testkit.Migrated(t)}
	p := startProgram(t, args...)
	require.NotContains(t, p.said(), "level=WARN", "the keys were fetched before the port was open")

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
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, p.url+"/events?topic=conversations/7/messages", nil)
	require.NoError(t, err)
	stream, err := in["bob"].http.Do(req)
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	lines := bufio.NewScanner(stream.Body)
	until := func(event string) {
		for lines.Scan() && lines.Text() != "event: "+event {
		}
		require.NoError(t, lines.Err())
	}
	until("ready")
	status, _ = in["ada"].say(t, "8", "not for bob")
	require.Equal(t, http.StatusOK, status)
	status, _ = in["ada"].say(t, "7", "for bob")
	require.Equal(t, http.StatusOK, status)
	until("invalidate")
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "conversations/7/messages")
	require.NotContains(t, lines.Text(), "conversations/8")

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

	require.NoError(t, stream.Body.Close())
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	<-p.done
	require.NotContains(t, p.said(), "eyJ", "a token is in the log")
	startProgram(t, args...)
	status, _ = in["bob"].list(t, "7")
	require.Equal(t, http.StatusOK, status, "a restart has signed bob out")
	status, _ = in["bob"].form(t, "/demo/renew", "")
	require.Equal(t, http.StatusOK, status)
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

func TestServe_demoAuth_refused(t *testing.T) {
	data := t.TempDir()
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
		"--grants=" + filepath.Join(data, "none.yaml"): "no such file",
	} {
		args := append([]string{"serve", "--demo-auth", "--database-url=postgres://x", "--admin-addr=", "--data-dir=" + data}, strings.Fields(flags)...)
		code, _, stderr := runs(t, args...)
		require.Equal(t, exitFailed, code, flags)
		require.Contains(t, stderr, want, flags)
	}
}
