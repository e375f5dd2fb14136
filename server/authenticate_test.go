package server_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/auth"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/server/messages"
)

// A handler that somebody forgot to wrap answers nobody, with the best of tokens
// too, and the log says what to do. What the node hands out is wrapped (G8).
func TestProtect_forgotten(t *testing.T) {
	log := new(testkit.Buffer)
	asked := 0
	b := embed(t, server.Config{
		DatabaseURL: testkit.Migrated(t),
		Authenticate: func(r *http.Request) (server.Principal, error) {
			asked++ // requests come one after the other
			if r.Header.Get("Test-User") == "" {
				return server.Principal{}, connect.NewError(connect.CodeUnauthenticated, errors.New("who?"))
			}
			return server.Principal{Subject: r.Header.Get("Test-User")}, nil
		},
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}).live(t)
	open := httptest.NewUnstartedServer(nil)
	_, open.Config.Handler = messages.Handler(b.node.DB(), b.node.HandlerOptions()...)
	open.Config.Protocols = new(http.Protocols)
	open.Config.Protocols.SetHTTP1(true)
	open.Config.Protocols.SetUnencryptedHTTP2(true)
	open.Start()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { transport.CloseIdleConnections(); open.Close() })
	h2 := &http.Client{Transport: transport}

	list := func(at, who string, options ...connect.ClientOption) error {
		if who != "" {
			options = append(options, connect.WithInterceptors(identity(who)))
		}
		client := messagesv1connect.NewMessageServiceClient(h2, at, options...)
		_, err := client.ListMessages(b.ctx, request(&messagesv1.ListMessagesRequest{Parent: "conversations/1"}, freshet.Revision{}))
		return err
	}
	for _, options := range [][]connect.ClientOption{nil, {connect.WithHTTPGet()}, {connect.WithGRPC()}, {connect.WithGRPCWeb()}} {
		for _, who := range []string{"", "ada"} {
			asked = 0
			requireCode(t, connect.CodeInternal, list(open.URL, who, options...))
			require.Zero(t, asked)
		}
		requireCode(t, connect.CodeUnauthenticated, list(b.url, "", options...))
		asked = 0
		require.NoError(t, list(b.url, "ada", options...))
		require.Equal(t, 1, asked)
	}
	require.Equal(t, 1, strings.Count(log.String(), "Node.Protect"), log.String())

	resp, err := b.http.Get(b.url + "/events?topic=messages") //nolint:noctx // of a test that ends
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	stream, err := freshetv1connect.NewInvalidationServiceClient(h2, b.url).Watch(b.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, err)
	require.False(t, stream.Receive())
	requireCode(t, connect.CodeUnauthenticated, stream.Err())
	require.NoError(t, stream.Close())
}

// Whoever is asked who calls, a refusal is counted once, where it is made: those of
// server/auth by its reasons, those of a team's own function by their code.
func TestAuthenticate_refusalsAreCounted(t *testing.T) {
	who, err := auth.New(auth.Config{KeyFile: publicKeyFile(t), Audiences: []string{"x"}})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		ask  server.Authenticate
		want string
	}{
		"server/auth": {who.Authenticate, "malformed 1, none 1"},
		"a team's own": {func(r *http.Request) (server.Principal, error) {
			switch r.Header.Get("Authorization") {
			case "":
				return server.Principal{}, connect.NewError(connect.CodePermissionDenied, errors.New("never"))
			default:
				return server.Principal{}, errors.New("the directory is down")
			}
		}, "permission_denied 1, unavailable 1"},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			b := embed(t, server.Config{DatabaseURL: testkit.Migrated(t), Authenticate: tt.ask, Registerer: registry, Logger: slog.New(slog.DiscardHandler)})
			_, inner := b.node.Events()
			_, outer := b.node.Protect("/", inner) // asked once, counted once
			for _, header := range []http.Header{{}, {"Authorization": {"Bearer x"}}} {
				r := httptest.NewRequestWithContext(b.ctx, http.MethodGet, "/events?topic=messages", nil)
				r.Header = header
				outer.ServeHTTP(httptest.NewRecorder(), r)
			}
			require.Equal(t, tt.want, refusals(t, registry))
		})
	}
}

// refusals are those that were counted, by reason.
func refusals(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	var all []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "freshet_auth_refused_total" {
				all = append(all, fmt.Sprintf("%s %v", m.GetLabel()[0].GetValue(), m.GetCounter().GetValue()))
			}
		}
	}
	return strings.Join(all, ", ")
}

// publicKeyFile holds a key that signs nothing.
func publicKeyFile(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "keys.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	return path
}

// scoped is a service whose answers depend on what its caller may: it counts how often
// it is asked, and holds each call until it is let go.
type scoped struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	running chan string   // gets the scope of each call that is in the handler
	release chan struct{} // closed: none is held
}

func (s *scoped) ListMessages(ctx context.Context, _ *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	scope, _ := server.PrincipalOf(ctx).Claims["scope"].(string)
	s.running <- scope
	select {
	case <-s.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return connect.NewResponse(&messagesv1.ListMessagesResponse{Messages: []*messagesv1.Message{{Body: "for " + scope}}}), nil
}

// F24: one subject with two tokens that allow different things asks for the same, at
// the same moment: two queries, two answers, two entity tags, and neither is given to
// the other, neither while it runs nor when it is kept.
func TestAuthenticate_F24_differentRights(t *testing.T) {
	s := &scoped{running: make(chan string, 100), release: make(chan struct{})}
	r := start(t, testkit.Migrated(t), func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{testkit.Unshared(t)}
		c.Authenticate = func(r *http.Request) (server.Principal, error) {
			return server.Principal{Issuer: "test", Subject: "ada", Claims: map[string]any{"sub": "ada", "scope": r.Header.Get("Test-User")}}, nil
		}
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return messagesv1connect.NewMessageServiceHandler(s, node.HandlerOptions()...)
		}
	})
	at := stampNow(t, r)
	const path = service + "ListMessages?connect=v1&encoding=json&message=%7B%22parent%22%3A%22conversations%2Fone%22%7D"
	ask := func(scope, tag string) (status int, body, etag string) {
		req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url+path, nil)
		if err != nil {
			return 0, err.Error(), ""
		}
		identity(scope).set(req.Header)
		req.Header.Set(intercept.HeaderAtLeast, at)
		if tag != "" {
			req.Header.Set("If-None-Match", tag)
		}
		resp, err := r.http.Do(req)
		if err != nil {
			return 0, err.Error(), ""
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error(), ""
		}
		return resp.StatusCode, string(text), resp.Header.Get("ETag")
	}
	type answer struct{ scope, body, etag string }
	answers := make(chan answer)
	for range 4 {
		for _, scope := range []string{"read", "admin"} {
			go func() {
				_, body, etag := ask(scope, "")
				answers <- answer{scope, body, etag}
			}()
		}
	}
	ran := []string{receive(t, r.ctx, s.running), receive(t, r.ctx, s.running)} // at the same moment
	require.ElementsMatch(t, []string{"read", "admin"}, ran)
	close(s.release)
	tags := map[string]string{}
	for range 8 {
		a := receive(t, r.ctx, answers)
		require.JSONEq(t, `{"messages":[{"body":"for `+a.scope+`"}]}`, a.body)
		tags[a.scope] = a.etag
	}
	require.NotEmpty(t, tags["read"])
	require.NotEqual(t, tags["read"], tags["admin"])
	for scope, other := range map[string]string{"read": "admin", "admin": "read"} {
		status, body, _ := ask(scope, tags[other])
		require.Equal(t, http.StatusOK, status, "%s: another's tag says nothing", scope)
		require.Contains(t, body, "for "+scope)
		status, _, _ = ask(scope, tags[scope])
		require.Equal(t, http.StatusNotModified, status, scope)
	}
	require.Empty(t, s.running, "all others joined their own query, or got a kept answer")
}

// stampNow is a revision that the node has reached.
func stampNow(t *testing.T, r *running) string {
	t.Helper()
	var rev string
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url+"/events?topic=messages", nil)
	require.NoError(t, err)
	resp, err := r.http.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	for lines := bufio.NewScanner(resp.Body); rev == "" && lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			rev = id
		}
	}
	require.NotEmpty(t, rev)
	return rev
}
