// Package tasks is the service: its table, and its handlers.
package tasks

import (
	"context"
	_ "embed" // for schema
	"errors"
	"strings"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/store"

	tasksv1 "github.com/freshet-dev/freshet/internal/scaffold/service/gen/tasks/v1"
)

//go:embed tasks.sql
var schema string

// Migrate makes the table. A service that has more than one version of its tables
// runs the migrations of its team's tool here, or before it starts.
func Migrate(ctx context.Context, database *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, database)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, schema)
	return errors.Join(err, conn.Close(ctx))
}

// Service implements tasksv1connect.TaskServiceHandler.
type Service struct {
	DB *store.DB
}

// ListTasks returns a project's tasks, the oldest first.
func (s *Service) ListTasks(ctx context.Context, req *connect.Request[tasksv1.ListTasksRequest]) (*connect.Response[tasksv1.ListTasksResponse], error) {
	project, err := projectOf(req.Msg.GetParent())
	if err != nil {
		return nil, err
	}
	answer := new(tasksv1.ListTasksResponse)
	err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "select project, id, title, done from tasks where project = $1 order by created_at, id", project)
		if err != nil {
			return err
		}
		answer.Tasks, err = pgx.CollectRows(rows, scan) // anew, should this run twice
		return err
	})
	return connect.NewResponse(answer), err
}

// CreateTask adds a task to a project.
func (s *Service) CreateTask(ctx context.Context, req *connect.Request[tasksv1.CreateTaskRequest]) (*connect.Response[tasksv1.CreateTaskResponse], error) {
	project, err := projectOf(req.Msg.GetParent())
	if err != nil {
		return nil, err
	}
	task, err := s.write(ctx, "insert into tasks (project, title, done) values ($1, $2, $3) returning project, id, title, done",
		project, req.Msg.GetTask().GetTitle(), req.Msg.GetTask().GetDone())
	return connect.NewResponse(&tasksv1.CreateTaskResponse{Task: task}), err
}

// UpdateTask sets the title of a task, and whether it is done.
func (s *Service) UpdateTask(ctx context.Context, req *connect.Request[tasksv1.UpdateTaskRequest]) (*connect.Response[tasksv1.UpdateTaskResponse], error) {
	parent, id, _ := strings.Cut(req.Msg.GetTask().GetName(), "/tasks/")
	project, err := projectOf(parent)
	if err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(id); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("task.name: want projects/{project}/tasks/{id}, as CreateTask has answered"))
	}
	task, err := s.write(ctx, "update tasks set title = $3, done = $4 where project = $1 and id = $2 returning project, id, title, done",
		project, id, req.Msg.GetTask().GetTitle(), req.Msg.GetTask().GetDone())
	return connect.NewResponse(&tasksv1.UpdateTaskResponse{Task: task}), err
}

// write runs a statement that returns the task it has changed. (That there is none,
// and that a column's rule is broken, becomes an error with its code by itself.)
func (s *Service) write(ctx context.Context, sql string, args ...any) (task *tasksv1.Task, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		task, err = pgx.CollectExactlyOneRow(rows, scan)
		return err
	})
	return task, err
}

func scan(row pgx.CollectableRow) (*tasksv1.Task, error) {
	var project, id string
	task := new(tasksv1.Task)
	err := row.Scan(&project, &id, &task.Title, &task.Done)
	task.Name = "projects/" + project + "/tasks/" + id
	return task, err
}

func projectOf(parent string) (string, error) {
	project, ok := strings.CutPrefix(parent, "projects/")
	if !ok || project == "" || strings.Contains(project, "/") {
		return "", connect.NewError(connect.CodeInvalidArgument, errors.New("parent: want projects/{project}"))
	}
	return project, nil
}
