package server_test

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	tasksv1 "github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1"
	"github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1/tasksv1connect"
	"github.com/freshet-dev/freshet/internal/scaffold/service/tasks"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// numbered is a server of tasks whose projects are numbers.
func numbered(t *testing.T) (*running, tasksv1connect.TaskServiceClient) {
	t.Helper()
	r := start(t, testkit.Database(t), func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{tasksv1.File_tasks_v1_tasks_proto.Services().ByName("TaskService")}
		c.Migrate = func(ctx context.Context, database *pgx.ConnConfig) error {
			if err := tasks.Migrate(ctx, database); err != nil {
				return err
			}
			conn, err := pgx.ConnectConfig(ctx, database)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(ctx) }()
			_, err = conn.Exec(ctx, `alter table tasks drop constraint if exists tasks_project_check, alter project type bigint using project::bigint`)
			return err
		}
		c.Check = nil
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return tasksv1connect.NewTaskServiceHandler(&tasks.Service{DB: node.DB()}, node.HandlerOptions()...)
		}
	})
	return r, tasksv1connect.NewTaskServiceClient(r.http, r.url)
}

// G2: a request that says a value otherwise than Postgres writes it is refused, as a
// read and as a write, though a handler that leaves the value to Postgres would answer
// it: nothing would tell whoever follows the answer.
func TestRun_otherSpellings(t *testing.T) {
	r, c := numbered(t)
	created, err := c.CreateTask(r.ctx, connect.NewRequest(&tasksv1.CreateTaskRequest{Parent: "projects/7", Task: &tasksv1.Task{Title: "x"}}))
	require.NoError(t, err)
	list, err := c.ListTasks(r.ctx, connect.NewRequest(&tasksv1.ListTasksRequest{Parent: "projects/7"}))
	require.NoError(t, err)
	require.Len(t, list.Msg.GetTasks(), 1)
	_, err = c.UpdateTask(r.ctx, connect.NewRequest(&tasksv1.UpdateTaskRequest{Task: &tasksv1.Task{Name: created.Msg.GetTask().GetName(), Title: "y"}}))
	require.NoError(t, err)

	refused := func(err error, text string) {
		t.Helper()
		cerr := requireCode(t, connect.CodeInvalidArgument, err)
		require.ErrorContains(t, err, text)
		require.Len(t, cerr.Details(), 1)
		info, err := cerr.Details()[0].Value()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(&errdetails.ErrorInfo{Domain: "freshet.dev", Reason: "TOPIC_SPELLING"}, info, protocmp.Transform()))
		require.Empty(t, cerr.Meta().Values(intercept.HeaderRevision), "it says nothing about data")
	}
	for parent, text := range map[string]string{
		"projects/007": `parent: "007" isn't how Postgres writes a bigint, and no change would ever be told of it: it writes "7"`,
		"projects/+7":  `parent: "+7" isn't how Postgres writes a bigint`,
		"projects/x":   `parent: "x" isn't how Postgres writes a bigint, and no change would ever be told of it: one is "42"`,
	} {
		_, err = c.ListTasks(r.ctx, connect.NewRequest(&tasksv1.ListTasksRequest{Parent: parent}))
		refused(err, text)
		_, err = c.CreateTask(r.ctx, connect.NewRequest(&tasksv1.CreateTaskRequest{Parent: parent, Task: &tasksv1.Task{Title: "x"}}))
		refused(err, text)
	}
	_, err = c.UpdateTask(r.ctx, connect.NewRequest(&tasksv1.UpdateTaskRequest{Task: &tasksv1.Task{Name: "projects/7/tasks/01928C7E-8F3A-7CC1-9B5E-2F6D1C0A4B77", Title: "y"}}))
	refused(err, `task.name: "01928C7E-8F3A-7CC1-9B5E-2F6D1C0A4B77" isn't how Postgres writes a uuid, and no change would ever be told of it: it writes "01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77"`)
}

// Nor are streams of such topics opened, in whatever way they are asked for: they would
// be silent for ever. What some row could have is followed, and what isn't known of.
func TestRun_otherSpellingsOfStreams(t *testing.T) {
	r, _ := numbered(t)
	const words = `"007" isn't how Postgres writes a bigint, and no change would ever be told of it: it writes "7"`
	w := wire{t, r.url, r.http}
	for _, a := range []answer{
		w.do(http.MethodGet, "/events?topic=projects/7/tasks&topic=projects/007/tasks", ""),
		w.do(http.MethodGet, "/events?topic=projects/007/tasks", "", "Last-Event-ID", "00000001-0000000000000001"),
		w.do(http.MethodPost, "/events", `{"topics":["projects/7/tasks","projects/007/tasks"]}`),
	} {
		require.Equal(t, http.StatusBadRequest, a.status, a.raw)
		require.Equal(t, "invalid_argument", a.code)
		require.Equal(t, `topic "projects/007/tasks": `+words, a.body.Message)
		info := detail[errdetails.ErrorInfo](t, a, "google.rpc.ErrorInfo")
		require.Equal(t, "freshet.dev TOPIC_SPELLING", info.GetDomain()+" "+info.GetReason())
		require.Contains(t, a.raw, `"topics":["projects/007/tasks"]`, "the others could be followed")
	}
	watch, err := freshetv1connect.NewInvalidationServiceClient(r.http, r.url).Watch(r.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"projects/007/tasks"}}))
	require.NoError(t, err)
	require.False(t, watch.Receive())
	cerr := requireCode(t, connect.CodeInvalidArgument, watch.Err())
	require.Equal(t, `topic "projects/007/tasks": `+words, cerr.Message())
	require.Len(t, cerr.Details(), 1)
	require.NoError(t, watch.Close())

	r.follow(t, "projects/7/tasks", "projects/007", "nobody/knows", "projects/-/tasks")
}

// What no template of a source makes is followed, and the log says so.
func TestRun_topicsOfNoTemplate(t *testing.T) {
	log := new(testkit.Buffer)
	r := start(t, testkit.Migrated(t), func(c *live.Config) { c.Logger = log.Logger() })
	r.follow(t, "conversations/7/messages", "conversations/7/messages/01928c7e-8f3a-7cc1-9b5e-2f6d1c0a4b77")
	require.NotContains(t, log.String(), "no template of the contract")
	r.follow(t, "conversations/7/messages", "conversation/7/messages")
	require.Regexp(t, `level=WARN msg="a stream follows a topic that no template of the contract makes: .*" topic=conversation/7/messages`, log.String())
}
