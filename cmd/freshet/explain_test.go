package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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
			"messages.v1.MessageService/ListMessages reads; one answer serves all callers",
			"\n  conversations/7/messages\n    told when a row of public.messages is written whose columns spell it: conversations/{conversation}/messages\n",
		}},
		{[]string{"messages.v1.MessageService/GetMessage", `{"name": "conversations/7/messages/x"}`}, exitOK, []string{"conversations/7/messages/x\n"}},
		{[]string{"CreateMessage", `{"parent": "conversations/7"}`}, exitOK, []string{"writes: its answer is stamped"}},
		{[]string{"ListMessages"}, exitOK, []string{"no topics"}},
		{[]string{"ListMessages", `{"parent": "conversations/7"}`, "--grants", granted}, exitOK, []string{"read conversations/7/messages: granted", "subscribe conversations/7/messages: granted"}},
		{[]string{"ListMessages", `{"parent": "conversations/8"}`, "--grants", granted}, exitFailed, []string{"read conversations/8/messages: denied"}},
		{[]string{"--image", "proto/image.binpb", "GetMessage", `{"name": "a/b"}`}, exitOK, []string{"\n  a/b\n    no table tells it"}},
		{[]string{"Message"}, exitFailed, []string{"no method of the contract is named", "messages.v1.MessageService/ListMessages"}},
		{[]string{"ListMessages", "{"}, exitFailed, []string{"no messages.v1.ListMessagesRequest in JSON"}},
		{[]string{"ListMessages", `{"parent": "a\u0000"}`}, exitFailed, []string{"topic"}},
		{[]string{"ListMessages", "--token", "x"}, exitFailed, []string{"--grants"}},
		{[]string{"--image", "go.mod", "ListMessages"}, exitFailed, []string{"read image"}},
	} {
		code, out, said := runs(t, append([]string{"explain"}, tt.args...)...)
		require.Equal(t, tt.code, code, "%q: %s%s", tt.args, out, said)
		for _, want := range tt.want {
			require.Contains(t, out+said, want, "%q", tt.args)
		}
	}
}
