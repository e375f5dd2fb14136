package intercept

import (
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

func TestConditional(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	q := r.queries()
	close(q.release)
	client := messagesv1connect.NewMessageServiceClient(r.http, r.url, connect.WithHTTPGet())
	get := func(tag string) (*connect.Response[messagesv1.GetMessageResponse], error) {
		req := getRequest(at(100).String())
		if tag != "" {
			req.Header().Set("If-None-Match", tag)
		}
		return client.GetMessage(t.Context(), req)
	}
	resp, err := get("")
	require.NoError(t, err)
	tag := resp.Header().Get("ETag")
	require.Len(t, tag, 2+128/4)
	require.Equal(t, "private, no-cache", resp.Header().Get("Cache-Control"))

	r.hub.Advance(at(130))
	for _, match := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		_, err = get(match)
		require.True(t, connect.IsNotModifiedError(err), "%v", err)
		require.Equal(t, at(130).String(), errorHeader(t, err, HeaderRevision), "a 304 brings a new stamp")
		require.Equal(t, tag, errorHeader(t, err, "ETag"))
	}
	resp, err = get(`"another"`)
	require.NoError(t, err)
	require.Equal(t, tag, resp.Header().Get("ETag"))
	post, err := r.client.GetMessage(t.Context(), getRequest(at(100).String()))
	require.NoError(t, err)
	require.Empty(t, post.Header().Get("ETag"))
}
