package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/tasks/gen/board/v1/boardv1connect"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// owner is the URL of the tests' database, as a superuser; program is the built
// service. TestMain makes them. Tests run one after the other, each with tenants of
// its own.
var owner, program string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		slog.Error("the tests can't run", slog.Any("error", err))
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "tasks")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // root's Postgres is another user's, who passes through
		return 0, err
	}
	program = filepath.Join(dir, "tasks")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, ".").CombinedOutput(); err != nil { //nolint:gosec // of this folder
		return 0, errors.New(string(out))
	}
	postgres, err := pgembed.Start(ctx, pgembed.Config{
		DataDir: filepath.Join(dir, "data"), RootDir: filepath.Join(dir, "root"),
		NPMDir: filepath.Join("..", "..", "web", "node_modules"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = errors.Join(err, postgres.Stop(stopping))
	}()
	owner = postgres.URL("")
	return m.Run(), nil
}

// service is the URL of the database as the role that owns nothing.
func service() string { return strings.Replace(owner, "postgres@", "tasks@", 1) }

// execute runs statements as the owner.
func execute(t *testing.T, statements string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), owner)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), statements)
	require.NoError(t, err)
}

// start starts the program, and returns its URL once it is ready. Every read is
// audited: one that looked into a table which it doesn't declare would fail.
func start(t *testing.T) (url string) {
	t.Helper()
	cmd := exec.Command(program) //nolint:noctx // it is told to end
	cmd.Env = append(os.Environ(), "DATABASE_URL="+service(), "OWNER_URL="+owner, "ADDR=127.0.0.1:0", "AUDIT_READS=all")
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), " http://"); ok {
				address <- "http://" + at
			}
			_, _ = t.Output().Write(append(lines.Bytes(), '\n'))
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, which is an error below
		require.NoError(t, <-ended)
	})
	select {
	case url = <-address:
	case err := <-ended:
		ended <- err
		require.FailNow(t, "it ended", "%v", err)
	case <-time.After(time.Minute):
		require.FailNow(t, "it doesn't listen")
	}
	ready(t, url)
	return url
}

// ready waits until a stream is live.
func ready(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := errors.New("ready")
	require.ErrorIs(t, as(t, url, "anybody").follow.Stream(ctx, []string{"tenants/anybody/labels"}, func(e client.Event) error {
		if _, ok := e.(client.Ready); ok {
			return done
		}
		return nil
	}), done)
}

// caller is somebody of a tenant.
type caller struct {
	follow *client.Client
	boards boardv1connect.BoardServiceClient
	tasks  boardv1connect.TaskServiceClient
}

func as(t *testing.T, url, tenant string) caller {
	t.Helper()
	token := "Bearer " + tenant + ":ada"
	follow, err := client.New(url, client.WithHeader("Authorization", token))
	require.NoError(t, err)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	signed := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", token)
			return next(ctx, req)
		}
	})
	options := connect.WithInterceptors(client.NewInterceptor(), signed)
	h := &http.Client{Transport: transport}
	return caller{follow, boardv1connect.NewBoardServiceClient(h, url, options), boardv1connect.NewTaskServiceClient(h, url, options)}
}
