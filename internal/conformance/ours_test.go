package conformance_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/conformance"
	tasksv1 "github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1"
	"github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1/tasksv1connect"
	"github.com/freshet-dev/freshet/internal/scaffold/service/tasks"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
)

// TestServer_ours: the server passes all cases, on a real Postgres.
func TestServer_ours(t *testing.T) {
	s := live.Start(t, testkit.Migrated(t), func(c *live.Config) { c.Heartbeat, c.Explain = time.Second, true })
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: s.URL, Service: conformance.Messages(), Patience: 30 * time.Second})
	require.NoError(t, err)
	requirePassed(t, report)
}

// TestServer_oursSpelling: so it does where a call can say another spelling, which rules of
// the message service's proto refuse before.
func TestServer_oursSpelling(t *testing.T) {
	s := live.Start(t, testkit.Database(t), func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{tasksv1.File_tasks_v1_tasks_proto.Services().ByName("TaskService")}
		c.Migrate, c.Check = tasks.Migrate, nil
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return tasksv1connect.NewTaskServiceHandler(&tasks.Service{DB: node.DB()}, node.HandlerOptions()...)
		}
	})
	const of, other = "/tasks.v1.TaskService/", "projects/PLACE/tasks/01928C7E-8F3A-7CC1-9B5E-2F6D1C0A4B77"
	service := conformance.Service{
		Read:  conformance.Call{Procedure: of + "ListTasks", Body: []byte(`{"parent":"projects/PLACE"}`), Topic: "projects/PLACE/tasks"},
		Write: conformance.Call{Procedure: of + "CreateTask", Body: []byte(`{"parent":"projects/PLACE","task":{"title":"VALUE"}}`)},
		Misspelled: conformance.Call{
			Procedure: of + "UpdateTask", Body: []byte(`{"task":{"name":"` + other + `","title":"x"}}`), Topic: other,
		},
	}
	service.Missing = service.Misspelled // no case here asks for it
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: s.URL, Service: service, Only: []string{"spelling-*"}, Patience: 30 * time.Second})
	require.NoError(t, err)
	require.Len(t, report.Results, 2)
	requirePassed(t, report)
}

func requirePassed(t *testing.T, report *conformance.Report) {
	t.Helper()
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log(text.String())
	require.Empty(t, report.Failed())
}
