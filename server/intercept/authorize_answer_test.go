package intercept

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/grants"
)

const other = "conversations/secret/messages/01890a5d-ac96-774b-bcce-b302099a8058"

// answering is a rig whose GetMessage depends on the message that it answers with.
func answering(t *testing.T, allowed Authorize, options ...connect.ClientOption) *rig {
	t.Helper()
	program, err := contract.Compile(testkit.Declared(t, testkit.MessageService(), func(method string, reads *freshetv1.Reads) {
		if method == "GetMessage" {
			reads.ResponseTopics = []string{"{message.name=**}"}
		}
	}))
	require.NoError(t, err)
	r := newRig(t, func(c *Config) { c.Contract, c.Authorizer = program, NewAuthorizer(allowed, c.Logger) }, options...)
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Name: other}}, nil
	}
	return r
}

// denyEve grants eve all but the one topic.
func denyEve(_ context.Context, who Principal, _ grants.Action, topics []string) error {
	if who.Subject == "eve" && slices.Contains(topics, other) {
		return grants.ErrDenied
	}
	return nil
}

// F24, G8: a topic that the answer names needs the same grant as one of the request,
// of an own query and of an answer that was kept for somebody else; and who has none
// is told what everybody is told.
func TestAuthorize_F24_answer(t *testing.T) {
	eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
		r := answering(t, denyEve, options...)
		read := func(user string) (*connect.Response[messagesv1.GetMessageResponse], error) {
			req := getRequest(at(90).String())
			req.Header().Set("Test-User", user)
			return r.client.GetMessage(t.Context(), req)
		}
		for range 2 { // at first nothing is kept
			_, err := read("eve")
			requireCode(t, connect.CodePermissionDenied, err)
			require.Equal(t, "permission_denied: "+grants.ErrDenied.Error(), err.Error())
			for _, header := range []string{HeaderRevision, HeaderCache, HeaderTopics} {
				require.Empty(t, errorHeader(t, err, header), header)
			}
			resp, err := read("ada")
			require.NoError(t, err)
			require.Equal(t, other, resp.Msg.GetMessage().GetName())
		}
	})
}

// Whoever guesses an answer's tag isn't told that it is the right one.
func TestAuthorize_G8_answerBeforeItsTag(t *testing.T) {
	r := answering(t, denyEve)
	get := func(user, tag string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			r.url+"/messages.v1.MessageService/GetMessage?connect=v1&encoding=json&message=%7B%22name%22%3A%22"+name+"%22%7D", nil)
		require.NoError(t, err)
		req.Header.Set("Test-User", user)
		if tag != "" {
			req.Header.Set("If-None-Match", tag)
		}
		resp, err := r.http.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp
	}
	tag := get("ada", "").Header.Get("Etag")
	require.NotEmpty(t, tag)
	require.Equal(t, http.StatusNotModified, get("ada", tag).StatusCode)
	require.Equal(t, http.StatusForbidden, get("eve", tag).StatusCode)
}
