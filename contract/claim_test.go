package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A caller whose claims are missing, or no text, is refused: a topic that was dropped
// would leave an answer that nobody is told of (G2).
func TestMethod_For(t *testing.T) {
	m := methodOf(t, "orgs/{principal.org_id}/notes", "u/{principal.app.user}")
	require.Equal(t, []string{"app.user", "org_id"}, m.Claims())
	req := dynamicpb.NewMessage(m.input)
	_, err := m.Topics(req)
	require.ErrorIs(t, err, errNoCaller, "nobody in particular has none of its topics")
	_, err = m.AnswerTopics(req, dynamicpb.NewMessage(m.output))
	require.ErrorIs(t, err, errNoCaller)
	require.Empty(t, m.Caller())

	user := map[string]any{"user": int64(7)}
	for _, tt := range []struct {
		claims        map[string]any
		claim, reason string
	}{
		{nil, "app.user", "the caller has none"},
		{map[string]any{"app": user}, "org_id", "the caller has none"},
		{map[string]any{"app": user, "org_id": ""}, "org_id", "it is empty"},
		{map[string]any{"app": user, "org_id": []any{"x"}}, "org_id", "it is neither a string nor an integer nor a bool"},
		{map[string]any{"app": user, "org_id": strings.Repeat("x", 513)}, "org_id", "it is longer than a topic (512 bytes)"},
		{map[string]any{"app": "x", "org_id": "x"}, "app.user", "the caller has none"},
	} {
		_, err := m.For(tt.claims)
		var claimError *ClaimError
		require.ErrorAs(t, err, &claimError)
		require.Equal(t, ClaimError{Procedure: m.Procedure, Claim: tt.claim, Reason: tt.reason}, *claimError)
		require.NotContains(t, err.Error(), "xxx", "no value")
	}

	acme, err := m.For(map[string]any{"app": user, "org_id": "acme", "other": []any{}})
	require.NoError(t, err)
	globex, err := m.For(map[string]any{"app": user, "org_id": "globex"})
	require.NoError(t, err)
	for m, want := range map[*Method][]string{acme: {"orgs/acme/notes", "u/7"}, globex: {"orgs/globex/notes", "u/7"}} {
		topics, err := m.Topics(req)
		require.NoError(t, err)
		require.Equal(t, want, topics, "one doesn't change the other")
	}
	_, err = m.Topics(req)
	require.ErrorIs(t, err, errNoCaller, "nor the method")

	for _, text := range []string{
		"", "org_id=acme", "app.user=7,org_id=acme,x=1", "org_id=acme,app.user=7", "app.user=7,org_id=",
		"app.user=7,org_id=a/b", "app.user=7,org_id=-", "app.user=7,org_id=%2d", "app.user=7, org_id=x", "app.user=7,org_id=%zz",
	} {
		_, err := m.ForCaller(text)
		require.ErrorContains(t, err, "its claims app.user, org_id", "%q", text)
	}
	plain := methodOf(t, "messages")
	same, err := plain.For(nil)
	require.NoError(t, err)
	require.Same(t, plain, same)
	same, err = plain.ForCaller("org_id=x")
	require.NoError(t, err)
	require.Same(t, plain, same)
}

// The hash tells a claim from a field of the request.
func TestProgram_hashOfClaims(t *testing.T) {
	hash := func(field, template string) string {
		fd := compileProto(t, "hash.proto", `syntax = "proto3"; package test.v1; import "freshet/v1/options.proto";
message Note { option (freshet.v1.source) = {table: "notes" topics: "orgs/{org}/notes"}; }
message Request { string `+field+` = 1; }
service S { rpc List(Request) returns (Note) {
  option idempotency_level = NO_SIDE_EFFECTS;
  option (freshet.v1.reads) = {topics: "orgs/{`+template+`}/notes"};
} }`)
		p, err := Compile(servicesOf(fd)...)
		require.NoError(t, err)
		return p.Hash()
	}
	require.NotEqual(t, hash("org", "org"), hash("org", "principal.org"))
	require.NotEqual(t, hash("org", "principal.app"), hash("org", "principal.org"))
}
