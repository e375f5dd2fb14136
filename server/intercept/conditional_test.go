package intercept

import (
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

func TestConditional(t *testing.T) {
	r := newRig(t, nil)
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

// A GET of topics in quarantine has no entity tag, is no 304 and isn't stored.
func TestConditional_F54_quarantine(t *testing.T) {
	r := newRig(t, nil)
	client := messagesv1connect.NewMessageServiceClient(r.http, r.url, connect.WithHTTPGet())
	get := func(tag string) (*connect.Response[messagesv1.GetMessageResponse], error) {
		req := getRequest(at(100).String())
		req.Header().Set("If-None-Match", tag)
		return client.GetMessage(t.Context(), req)
	}
	resp, err := get("")
	require.NoError(t, err)
	tag := resp.Header().Get("ETag")
	require.NotEmpty(t, tag)
	_, err = get(tag)
	require.True(t, connect.IsNotModifiedError(err))

	r.hub.Quarantine([]freshet.Pattern{"**"})
	resp, err = get("*")
	require.NoError(t, err)
	require.Empty(t, resp.Header().Get("ETag"))
	require.Equal(t, "no-store", resp.Header().Get("Cache-Control"))
}
