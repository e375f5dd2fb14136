// Package live starts servers in tests as users start them: package front before
// a node of package server, with the message service behind it. For tests only.
package live

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/messages"
)

// Config is what a test may change.
type Config struct {
	server.Config
	Front front.Config
	// Handler is the service's, in the place of the message service's own.
	Handler func(node *server.Node) (path string, handler http.Handler)
	// Handlers are those of several services, in the place of Handler.
	Handlers func(node *server.Node) []front.Service
}

// MessageConfig is a node's configuration with the message service in it.
func MessageConfig(c server.Config) server.Config {
	if c.Services == nil {
		c.Services = []protoreflect.ServiceDescriptor{messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService")}
	}
	c.Migrate = messages.MigrateConfig
	c.Check = messages.VerifyConfig
	return c
}

// Server is a server that runs.
type Server struct {
	URL  string // set once it is ready
	Node *server.Node
	// Stop ends it and returns what Run returned. It may be repeated.
	Stop func() error
}

// Start starts a server, and returns once it is ready. It stops with the test, if
// not before.
func Start(t testing.TB, database string, change func(*Config)) *Server {
	t.Helper()
	s, ready, ended := Launch(t, database, change)
	select {
	case s.URL = <-ready:
	case err := <-ended:
		require.FailNow(t, "the server did not start", "%v", err)
	case <-testkit.Context(t).Done():
		require.FailNow(t, "the server did not get ready")
	}
	return s
}

// Settled waits until no source of a node that is ready is in quarantine, which takes
// some milliseconds more, or on a busy machine a second: until then nothing is kept.
func Settled(t testing.TB, node *server.Node) {
	t.Helper()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(node.Warnings(), func(w string) bool { return strings.Contains(w, "in quarantine") })
	}, time.Minute, time.Millisecond)
}

// Launch starts a server. ready gets its URL once it is ready, ended what Run
// returned.
func Launch(t testing.TB, database string, change func(*Config)) (s *Server, ready <-chan string, ended <-chan error) {
	t.Helper()
	cfg := Config{
		Config: MessageConfig(server.Config{DatabaseURL: database, Logger: testkit.Logger(t)}),
		Front:  front.Config{Addr: "127.0.0.1:0"},
	}
	cfg.Handler = func(node *server.Node) (string, http.Handler) {
		return messages.Handler(node.DB(), node.HandlerOptions()...)
	}
	if change != nil {
		change(&cfg)
	}
	cfg.Front.Logger = cmp.Or(cfg.Front.Logger, cfg.Logger)
	cfg.Front.WriteTimeout = cmp.Or(cfg.Front.WriteTimeout, cfg.WriteTimeout)
	cfg.Front.MaxRequestBytes = cmp.Or(cfg.Front.MaxRequestBytes, cfg.MaxRequestBytes)
	f, err := front.New(cfg.Front)
	require.NoError(t, err)
	isReady := make(chan string, 1)
	cfg.Caller, cfg.Registerer = f.Caller, f.Registry()
	cfg.OnReady = func() { isReady <- f.URL() }
	node, err := server.New(cfg.Config)
	require.NoError(t, err)
	if cfg.Handlers == nil {
		cfg.Handlers = func(node *server.Node) []front.Service {
			path, handler := cfg.Handler(node)
			return []front.Service{{Descriptor: cfg.Services[0], Path: path, Handler: handler}}
		}
	}
	services := cfg.Handlers(node)

	ctx, cancel := context.WithCancel(context.Background())
	hasEnded, done := make(chan error, 1), make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = f.Run(ctx, node, nil, services...)
		hasEnded <- result
	}()
	s = &Server{Node: node, Stop: func() error {
		cancel()
		<-done
		return result
	}}
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s, isReady, hasEnded
}

// FreeAddr is an address on loopback at which nobody listens.
func FreeAddr(t testing.TB) string { return testkit.FreeAddr(t, "127.0.0.1") }

// FreeAddrEverywhere is one that other machines reach, too: as it is bound, and as it is
// reached here. A port may be free on loopback's address and taken on another.
func FreeAddrEverywhere(t testing.TB) (bound, here string) {
	bound = testkit.FreeAddr(t, "0.0.0.0")
	return bound, strings.Replace(bound, "0.0.0.0", "127.0.0.1", 1)
}
