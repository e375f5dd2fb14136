package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/store/pgembed"

	tasksv1 "github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1"
	"github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1/tasksv1connect"
)

// A list that somebody looks at holds what others write: by RPC, and by SQL past the
// service.
func TestTasks_listIsLive(t *testing.T) {
	ctx, url, database := running(t)
	stream, err := client.New(url)
	require.NoError(t, err)
	service := tasksv1connect.NewTaskServiceClient(http.DefaultClient, url)
	list, err := client.NewQuery(stream, service.ListTasks, &tasksv1.ListTasksRequest{Parent: "projects/7"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- list.Run(ctx) }()

	var titles []string
	for state := range list.Changes(ctx) {
		if !state.Fresh {
			continue
		}
		titles = titles[:0]
		for _, task := range state.Value.GetTasks() {
			titles = append(titles, task.GetTitle())
		}
		switch len(titles) {
		case 0:
			_, err := service.CreateTask(ctx, connect.NewRequest(&tasksv1.CreateTaskRequest{
				Parent: "projects/7", Task: &tasksv1.Task{Title: "by RPC"},
			}))
			require.NoError(t, err)
		case 1:
			conn, err := pgx.Connect(ctx, database)
			require.NoError(t, err)
			_, err = conn.Exec(ctx, "insert into tasks (project, title) values ('7', 'by SQL')")
			require.NoError(t, err)
			require.NoError(t, conn.Close(ctx))
		}
		if len(titles) == 2 {
			break
		}
	}
	require.Equal(t, []string{"by RPC", "by SQL"}, titles)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// running starts the service on a Postgres of the test's own.
func running(t *testing.T) (_ context.Context, url, database string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "tasks") // not t.TempDir: a Unix socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	postgres, err := pgembed.Start(ctx, pgembed.Config{DataDir: filepath.Join(dir, "data"), RootDir: filepath.Join(dir, "root")})
	require.NoError(t, err)
	t.Cleanup(func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, postgres.Stop(stopping))
	})

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(serving, listener, postgres.URL("")) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return ctx, "http://" + listener.Addr().String(), postgres.URL("")
}
