package server_test

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/client"
	tasksv1 "github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1"
	"github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1/tasksv1connect"
	"github.com/freshet-dev/freshet/internal/scaffold/service/tasks"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

// A reader whose request names a path of raw ids is told of the rows that have
// these ids, whatever characters are in them.
func TestRun_pathsOfRawIDs(t *testing.T) {
	database := testkit.Database(t)
	r := start(t, database, func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{tasksv1.File_tasks_v1_tasks_proto.Services().ByName("TaskService")}
		c.Migrate, c.Check = tasks.Migrate, nil
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return tasksv1connect.NewTaskServiceHandler(&tasks.Service{DB: node.DB()}, node.HandlerOptions()...)
		}
	})
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(r.url, client.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	service := tasksv1connect.NewTaskServiceClient(r.http, r.url)
	conn := testkit.Conn(t, database)
	for _, project := range []string{"7", "a b", "ünï", "ann@example.com", "a%20b", "%", "*", "a\tb", "日本"} {
		t.Run(project, func(t *testing.T) {
			list, err := client.NewQuery(c, service.ListTasks, &tasksv1.ListTasksRequest{Parent: "projects/" + project})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(r.ctx)
			ended := make(chan error, 1)
			go func() { ended <- list.Run(ctx) }()
			titles := func(want int) (titles []string) {
				for state := range list.Changes(ctx) {
					if got := state.Value.GetTasks(); state.Fresh && len(got) == want {
						for _, task := range got {
							titles = append(titles, task.GetTitle())
						}
						return titles
					}
				}
				require.FailNow(t, "nobody told the reader", "%q has not got %d tasks", project, want)
				return nil
			}
			require.Empty(t, titles(0))
			_, err = conn.Exec(ctx, "insert into tasks (project, title) values ($1, 'by SQL')", project)
			require.NoError(t, err)
			require.Equal(t, []string{"by SQL"}, titles(1))
			_, err = service.CreateTask(ctx, connect.NewRequest(&tasksv1.CreateTaskRequest{Parent: "projects/" + project, Task: &tasksv1.Task{Title: "by RPC"}}))
			require.NoError(t, err)
			require.Equal(t, []string{"by SQL", "by RPC"}, titles(2))
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
		})
	}
	// That would be the wildcard of a topic's segment, which no row tells.
	_, err = service.CreateTask(r.ctx, connect.NewRequest(&tasksv1.CreateTaskRequest{Parent: "projects/-", Task: &tasksv1.Task{Title: "x"}}))
	requireCode(t, connect.CodeInvalidArgument, err)
}
