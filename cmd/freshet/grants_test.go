package main

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

const testGrants = `anonymous: {read: ["announcements/**"]}
rules:
  - when: "'messages.read' in claims.scope.split(' ')"
    read:
      - orgs/{org_id}/**
  - write: ["users/{sub}/**"]
  - when: claims.sub == 'ada'
    admin: true
`

func TestGrantsTest(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	granted, broken := file("grants.yaml", testGrants), file("broken.yaml", "rules:\n- reed: [a]\n")
	const ada = `{"iss":"https://issuer.example","sub":"ada","scope":"openid messages.read","org_id":"acme"}`
	claims, scopeless, list := file("ada.json", ada), file("bob.json", `{"sub":"bob"}`), file("list.json", `[1]`)
	token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(ada)) + ".sig"
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--claims", claims, "orgs/acme/x"}, exitOK, `read orgs/acme/x: granted
  rule 1 (` + granted + `:3): "orgs/{org_id}/**" (line 5)
`},
		{[]string{"--token", token, "--action", "subscribe", "orgs/acme/x"}, exitOK, "subscribe orgs/acme/x: granted"},
		{[]string{"announcements/1"}, exitOK, `anonymous (` + granted + `:1): "announcements/**" (line 1)`},
		{[]string{"orgs/acme/x"}, exitFailed, "rule 1 (" + granted + ":3) doesn't apply: the caller isn't known"},
		{[]string{"--claims", claims, "orgs/other/x", "orgs/acme"}, exitFailed, `read orgs/other/x: denied
  anonymous (` + granted + `:1): "announcements/**" (line 1) doesn't match
  rule 1 (` + granted + `:3): "orgs/{org_id}/**" (line 5) doesn't match: {org_id} is acme
  rule 2 (` + granted + `:6) has no patterns of read
  rule 3 (` + granted + `:7) has no patterns of read
read orgs/acme: granted`},
		{[]string{"--claims", scopeless, "orgs/acme"}, exitFailed, "rule 1 (" + granted + ":3) doesn't apply: when is false: no such key: scope"},
		{[]string{"--claims", scopeless, "--action", "write", "users/ada/x"}, exitFailed, "{sub} is bob"},
		{[]string{"--claims", list, "a"}, exitFailed, "the claims are not a JSON object"},
		{[]string{"--token", "opaque", "a"}, exitFailed, "give its claims by --claims"},
		{[]string{"--token", "a.!.c", "a"}, exitFailed, "not base64url"},
		{[]string{"a\tb"}, exitFailed, "control character"},
		{[]string{"--grants", broken, "a"}, exitFailed, broken + `:2: rule 1: a rule has no "reed": it takes when, read, write, admin`},
		{[]string{"--claims", claims, "--action", "admin"}, exitOK, "admin: granted\n  rule 3 (" + granted + ":7): admin: true\n"},
		{[]string{"--claims", scopeless, "--action", "admin"}, exitFailed, "rule 2 (" + granted + ":6) doesn't say admin: true"},
		{[]string{"--action", "admin"}, exitFailed, "the caller isn't known"},
		{[]string{"--action", "admin", "metrics"}, exitFailed, "the admin port has no topics"},
		{[]string{"--claims", claims, "--token", token, "a"}, exitUsage, "can't be used together"},
		{nil, exitFailed, "say which topics"},
	} {
		args := append([]string{"grants", "test"}, tt.args...)
		if len(tt.args) == 0 || tt.args[0] != "--grants" {
			args = append([]string{"grants", "test", "--grants", granted}, tt.args...)
		}
		code, stdout, stderr := runs(t, args...)
		require.Equal(t, tt.code, code, "%q: %s%s", tt.args, stdout, stderr)
		require.Contains(t, stdout+stderr, tt.want, "%q", tt.args)
		require.NotContains(t, stderr, token)
	}
}

// serve decides by the file, follows it, and refuses to start with one that is broken.
func TestServe_grants(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "grants.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("anonymous: {reed: [a]}")
	code, _, stderr := runs(t, "serve", "--grants", path, "--addr=127.0.0.1:0", "--admin-addr=", "--database-url="+testkit.Migrated(t))
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, path+`:1: anonymous has no "reed"`)

	write(`anonymous: {read: ["conversations/a/**"]}`)
	p := startProgram(t, "--grants="+path, "--database-url="+testkit.Migrated(t))
	list := func(conversation string) int {
		status, _ := p.status(t, "/messages.v1.MessageService/ListMessages?connect=v1&encoding=json&message="+
			url.QueryEscape(`{"parent":"conversations/`+conversation+`"}`))
		return status
	}
	require.Equal(t, http.StatusOK, list("a"))
	require.Equal(t, http.StatusForbidden, list("b"))
	write(`anonymous: {read: ["conversations/b/**"]}`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return list("a") == http.StatusForbidden }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, list("b"))
	require.Contains(t, p.log.String(), "other grants are in force")
	require.NotContains(t, p.log.String(), "nothing to reload")
}
