package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/testkit/orgs"
	"github.com/freshet-dev/freshet/server/intercept"
)

func TestExplain(t *testing.T) {
	granted := filepath.Join(t.TempDir(), "grants.yaml")
	require.NoError(t, os.WriteFile(granted, []byte("anonymous: {read: [\"conversations/7/**\"]}\nrules: []\n"), 0o600))
	for _, tt := range []struct {
		args []string
		code int
		want []string // in standard output or error
	}{
		{[]string{"ListMessages", `{"parent": "conversations/7"}`}, exitOK, []string{
			"messages.v1.MessageService/ListMessages reads; one answer serves all callers until one of its topics is told (shared)",
			"\n  conversations/7/messages\n    told when a row of public.messages is written whose columns spell it: conversations/{conversation}/messages\n",
		}},
		{[]string{"messages.v1.MessageService/GetMessage", `{"name": "conversations/7/messages/x"}`}, exitOK, []string{"conversations/7/messages/x\n"}},
		{[]string{"v1.MessageService.GetMessage", `{"name": "conversations/7/messages/x"}`}, exitOK, []string{"conversations/7/messages/x\n"}}, // as adopt and lint name it
		{[]string{"CreateMessage", `{"parent": "conversations/7"}`}, exitOK, []string{"writes: its answer is stamped"}},
		{[]string{"ListMessages"}, exitOK, []string{"no topics"}},
		{[]string{"ListMessages", `{"parent": "conversations/7"}`, "--grants", granted}, exitOK, []string{"read conversations/7/messages: granted", "subscribe conversations/7/messages: granted"}},
		{[]string{"ListMessages", `{"parent": "conversations/8"}`, "--grants", granted}, exitFailed, []string{"read conversations/8/messages: denied"}},
		{[]string{"--image", "proto/image.binpb", "GetMessage", `{"name": "a/b"}`}, exitOK, []string{"\n  a/b\n    no table tells it"}},
		{[]string{"Message"}, exitFailed, []string{"no method of the contract is named", "messages.v1.MessageService/ListMessages"}},
		{[]string{"ListMessages", "{"}, exitFailed, []string{"no messages.v1.ListMessagesRequest in JSON"}},
		{[]string{"ListMessages", `{"parent": "a//b"}`}, exitFailed, []string{"topic"}},
		{[]string{"ListMessages", "--token", "x"}, exitFailed, []string{"the token is not a JWT"}},
		{[]string{"--image", "go.mod", "ListMessages"}, exitFailed, []string{"read image"}},
	} {
		code, out, said := runs(t, append([]string{"explain"}, tt.args...)...)
		require.Equal(t, tt.code, code, "%q: %s%s", tt.args, out, said)
		for _, want := range tt.want {
			require.Contains(t, out+said, want, "%q", tt.args)
		}
	}
}

// A topic that its service tells itself isn't one that nobody tells.
func TestExplain_told(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stats.proto"), []byte(`syntax = "proto3";

package work.v1;

import "freshet/v1/options.proto";

message Stats {
  option (freshet.v1.source) = {table: "work.stats" topics: "projects/{project}/stats" told: true};
  string project = 1;
}
service StatsService {
  rpc GetStats(Stats) returns (Stats) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "projects/{project}/stats"};
  }
}
`), 0o600))
	image := imageFile(t, dir)
	code, out, said := runs(t, "explain", "--image", image, "GetStats", `{"project": "7"}`)
	require.Equal(t, exitOK, code, said)
	require.Contains(t, out, "\n  projects/7/stats\n    told by whoever changes work.stats, with pg_logical_emit_message in the same transaction")
	require.NotContains(t, out, "no table tells it")

	_, _, said = runs(t, "lint", image)
	require.Equal(t, "no problems in 1 source, 1 method\n", said)
}

// A read whose topics take a claim of the caller, and more out of its answer: by its
// templates, by somebody's claims, by the answer of a server.
func TestExplain_callerAndAnswer(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	b, err := imageOf([]protoreflect.FileDescriptor{orgs.Service().ParentFile()})
	require.NoError(t, err)
	image := write("image.binpb", string(b))
	ada := write("ada.json", `{"sub": "ada", "org_id": 9007199254740993}`)
	eve := write("eve.json", `{"sub": "eve"}`)
	granted := write("grants.yaml", "rules:\n  - {read: [\"orgs/{org_id}/notes\"]}\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer e30.eyJvcmdfaWQiOiJhY21lIn0.x" { // {"org_id":"acme"}
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set(intercept.HeaderPrincipal, "org_id=of%20acme") // it is the server who knows
		fmt.Fprint(w, `{"notes": [{"id": "7", "more": 1}, {"id": "8"}]}`)
	}))
	defer server.Close()
	const token = "e30.eyJvcmdfaWQiOiJhY21lIn0.x"
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{nil, exitOK, []string{
			"ListNotes reads; an answer serves calls of one issuer, subject and claims until one of its topics is told (not shared)",
			"topics take the caller's org_id, which --claims or --token says: orgs/{principal.org_id}/notes\n",
			"  and of the answer: orgs/{principal.org_id}/notes/{notes.id}/tags\n",
		}},
		{[]string{"--claims", ada}, exitOK, []string{
			"topics take the caller's org_id: org_id=9007199254740993\n",
			"\n  orgs/9007199254740993/notes\n    told when a row of public.notes is written whose columns spell it: orgs/{org_id}/notes\n",
			"--url asks a server",
		}},
		{[]string{"--claims", ada, "--grants", granted}, exitOK, []string{"read orgs/9007199254740993/notes: granted"}},
		{[]string{"--claims", eve}, exitFailed, []string{`the caller's claim "org_id", and the caller has none`}},
		{[]string{"--url", server.URL, "--token", token}, exitOK, []string{
			"org_id=of%20acme\n", "\n  orgs/of%20acme/notes\n", "\n  orgs/of%20acme/notes/7/tags\n    told when a row of public.tags",
			"\n  orgs/of%20acme/notes/8/tags\n",
		}},
		{[]string{"--url", server.URL, "--token", token, "--grants", granted}, exitFailed, []string{"read orgs/of%20acme/notes/7/tags: denied"}},
		{[]string{"--url", server.URL}, exitFailed, []string{"answered 401"}},
		{[]string{"--url", "http://127.0.0.1:1"}, exitFailed, []string{"refused"}},
	} {
		code, out, said := runs(t, append([]string{"explain", "--image", image, "ListNotes"}, tt.args...)...)
		require.Equal(t, tt.code, code, "%q: %s%s", tt.args, out, said)
		for _, want := range tt.want {
			require.Contains(t, out+said, want, "%q", tt.args)
		}
	}
	code, _, said := runs(t, "explain", "--image", image, "WriteNote", "--url", server.URL)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "this method writes")
}
