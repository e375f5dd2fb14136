package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/intercept"
)

// accounts are the callers of these tests, as an issuer would describe them.
var accounts = map[string]map[string]any{
	"ada": {"sub": "ada", "scope": "openid messages", "conversations": []any{"one", "two"}},
	"bob": {"sub": "bob", "scope": "messages", "conversations": "one"},
	"eve": {"sub": "eve", "scope": "messages", "conversations": []any{"eve", "one/", "*", "-", "one%2F"}},
	"mod": {"sub": "mod", "role": "moderator"},
}

// granted is a node with the message service, behind grants and a middleware that
// knows callers by their names.
type granted struct {
	*bare
	path string // of the grants file
	h2   *http.Client
}

func startGranted(t *testing.T, database string) *granted {
	t.Helper()
	sample, err := os.ReadFile("messages/grants.yaml")
	require.NoError(t, err)
	g := &granted{path: filepath.Join(t.TempDir(), "grants.yaml")}
	g.write(t, string(sample))
	changed := make(chan struct{}, 1)
	file, err := grants.Open(g.path, grants.Options{Logger: testkit.Logger(t), OnChange: func() { changed <- struct{}{} }})
	require.NoError(t, err)
	g.bare = embedBehind(t, server.Config{
		DatabaseURL: database,
		Authorize:   server.Grants(file),
		Explain:     true, // whoever may not read a topic isn't told of its changes, either
		Authenticate: func(r *http.Request) (server.Principal, error) {
			who := r.Header.Get("Test-User")
			return server.Principal{Subject: who, Claims: accounts[who]}, nil
		},
	}, intercept.RequestID)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() {
		_ = file.Run(ctx)
		done <- struct{}{}
	}()
	go func() {
		for {
			select {
			case <-changed:
				_ = g.node.Reauthorize(ctx)
			case <-ctx.Done():
				done <- struct{}{}
				return
			}
		}
	}()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	g.h2 = &http.Client{Transport: transport}
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
		transport.CloseIdleConnections()
	})
	g.live(t)
	return g
}

func (g *granted) write(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(g.path, []byte(text), 0o600))
}

// as is a client of one caller.
func (g *granted) as(who string, options ...connect.ClientOption) messagesv1connect.MessageServiceClient {
	options = append(options, connect.WithInterceptors(identity(who)))
	return messagesv1connect.NewMessageServiceClient(g.h2, g.url, options...)
}

// identity sends who calls, and always the same request id.
type identity string

func (i identity) set(h http.Header) {
	h.Set("Test-User", string(i))
	h.Set(intercept.HeaderRequestID, "1")
}

func (i identity) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		i.set(req.Header())
		return next(ctx, req)
	}
}

func (i identity) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		i.set(conn.RequestHeader())
		return conn
	}
}

func (identity) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// send sends a plain request as somebody, and returns the response and its dump
// without the time of day.
func (g *granted) send(t *testing.T, who, method, target, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(g.ctx, method, g.url+target, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	identity(who).set(req.Header)
	resp, err := g.http.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp, "a stream"
	}
	dump, err := httputil.DumpResponse(resp, true)
	require.NoError(t, err)
	return resp, regexp.MustCompile(`(?m)^Date: .*$`).ReplaceAllString(string(dump), "Date")
}

const service = "/messages.v1.MessageService/"

// getTarget is the URL of a read by GET.
func getTarget(t *testing.T, name string) string {
	t.Helper()
	message, err := json.Marshal(map[string]string{"name": name})
	require.NoError(t, err)
	return service + "GetMessage?connect=v1&encoding=json&message=" + url.QueryEscape(string(message))
}
