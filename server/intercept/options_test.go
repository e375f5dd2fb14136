package intercept

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/reuse"
)

func gunzip(t *testing.T, compressed []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

// Whoever asks in whatever form gets the answer of now, from the first change on.
func TestOptions_keptFormsOnTheWire(t *testing.T) {
	r := newRig(t, nil)
	body := ""
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: body}}, nil
	}
	ask := func(contentType, encoding, atLeast string) (string, http.Header) {
		request := proto.Message(&messagesv1.GetMessageRequest{Name: name})
		raw, err := proto.Marshal(request)
		if contentType == "application/json" {
			raw, err = protojson.Marshal(request)
		}
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+messagesv1connect.MessageServiceGetMessageProcedure, bytes.NewReader(raw))
		require.NoError(t, err)
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept-Encoding", encoding)
		req.Header.Set(HeaderAtLeast, atLeast)
		resp, err := r.http.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(out))
		if resp.Header.Get("Content-Encoding") == "gzip" {
			out = []byte(gunzip(t, out))
		}
		var got messagesv1.GetMessageResponse
		if contentType == "application/json" {
			require.NoError(t, protojson.Unmarshal(out, &got))
		} else {
			require.NoError(t, proto.Unmarshal(out, &got))
		}
		return got.GetMessage().GetBody(), resp.Header
	}
	for position := uint64(201); position < 204; position++ {
		body = strings.Repeat(at(position).String(), 100)
		r.hub.Publish(freshet.Commit{Revision: at(position), Topics: []string{name}})
		for i := range 3 {
			for _, contentType := range []string{"application/json", "application/proto"} {
				for _, encoding := range []string{"gzip", "identity"} {
					got, header := ask(contentType, encoding, at(position).String())
					require.Equal(t, body, got)
					require.Equal(t, encoding == "gzip", header.Get("Content-Encoding") == "gzip")
					if i > 0 {
						require.Equal(t, string(reuse.Hit), header.Get(HeaderCache))
					}
				}
			}
		}
	}
	body = "short"
	r.hub.Publish(freshet.Commit{Revision: at(204), Topics: []string{name}})
	_, header := ask("application/json", "gzip", at(204).String())
	require.Empty(t, header.Get("Content-Encoding"), "not worth it")
}
