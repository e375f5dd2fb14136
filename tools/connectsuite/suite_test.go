package connectsuite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/conformance/internal"
	conformancev1 "connectrpc.com/conformance/internal/gen/proto/go/connectrpc/conformance/v1"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// asServer in the environment makes this program what the suite starts as its server:
// it says where the one server of the test is, which serves every version of HTTP.
const asServer = "CONNECTSUITE_ADDR"

func TestMain(m *testing.M) {
	if addr := os.Getenv(asServer); addr != "" {
		if err := point(addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func point(addr string) error {
	codec := internal.NewCodec(false)
	if err := codec.NewDecoder(os.Stdin).DecodeNext(new(conformancev1.ServerCompatRequest)); err != nil {
		return err
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return err
	}
	if err := codec.NewEncoder(os.Stdout).Encode(&conformancev1.ServerCompatResponse{Host: host, Port: uint32(port)}); err != nil {
		return err
	}
	select {} // until the suite ends it
}

// outOfTime are cases in which client and server give up at the same moment: a client that
// is first hangs up while the error is under way, and the suite then finds half of it.
const outOfTime = "Timeouts/HTTPVersion:2/Protocol:PROTOCOL_CONNECT/**/unary"

// TestSuite: the suite has nothing to say against a service behind the interceptors.
func TestSuite(t *testing.T) {
	addr := serve(t)
	runner := filepath.Join(t.TempDir(), "connectconformance")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", runner, "connectrpc.com/conformance/cmd/connectconformance")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	suite := exec.CommandContext(ctx, runner, "--mode", "server", "--conf", "suite.yaml", "--known-failing", "@known-failing.txt", "--known-flaky", outOfTime, "--", os.Args[0])
	suite.Env = append(os.Environ(), asServer+"="+addr)
	out, err = suite.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, total, _ := strings.Cut(string(out), "Total cases: ")
	t.Logf("of %s", total)
}

// serve starts a node that serves the suite's service, and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	service, err := declared()
	require.NoError(t, err)
	node, err := server.New(server.Config{
		DatabaseURL: database(t, "create table suite (id int primary key)"), Services: []protoreflect.ServiceDescriptor{service},
		Logger: slog.New(slog.DiscardHandler), OnReady: func() { close(ready) },
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(node.Protect(handler(node.HandlerOptions()...)))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 2)
	go func() { ended <- node.Run(ctx) }()
	go func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- err
			return
		}
		ended <- nil
	}()
	t.Cleanup(func() {
		require.NoError(t, web.Close())
		stop()
		require.NoError(t, errors.Join(<-ended, <-ended))
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		require.FailNow(t, "the node isn't ready", "%v", node.Ready())
	}
	return listener.Addr().String()
}

// database starts a Postgres that has run some SQL, and returns its URL.
func database(t *testing.T, sql string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "suite") // not t.TempDir: a Unix socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // root's Postgres is another user's, who passes through
	postgres, err := pgembed.Start(t.Context(), pgembed.Config{
		DataDir: filepath.Join(dir, "data"), RootDir: filepath.Join(dir, "root"),
		NPMDir: filepath.Join("..", "..", "web", "node_modules"), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, postgres.Stop(stopping))
	})
	conn, err := pgx.Connect(t.Context(), postgres.URL(""))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	return postgres.URL("")
}
