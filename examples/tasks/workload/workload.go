// Package workload tells package check what the service looks like: tasks are rows,
// projects are places, and a task's title holds the checker's cell.
package workload

import (
	"context"

	"github.com/freshet-dev/freshet/check"

	boardv1 "example.com/tasks/gen/board/v1"
	"example.com/tasks/gen/board/v1/boardv1connect"
)

// Tenant is whose projects the checker writes to; they have to be there.
const Tenant = "checked"

// Boards is the service as far as the checker knows it: boards that requests name, and
// those of callers, which no request names. By RPC tasks are created only: one that is
// deleted stays a row, which the checker would miss on the board.
func Boards() check.Workload {
	return check.Workload{
		Topics: []check.Topic{
			{
				Kind: check.OfPlace, Name: "tenants/" + Tenant + "/projects/{project}/tasks",
				Read: check.NewQuery(boardv1connect.BoardServiceListBoardProcedure,
					func(a check.Ask) *boardv1.ListBoardRequest {
						return &boardv1.ListBoardRequest{Tenant: Tenant, Project: a.Place}
					},
					func(a *boardv1.ListBoardResponse) check.Page { return titles(a.GetTasks()) }),
			},
			{
				Kind: check.OfCaller, Name: "tenants/" + Tenant + "/projects/{principal.sub}/tasks",
				Read: check.NewQuery(boardv1connect.BoardServiceListOwnProcedure,
					func(check.Ask) *boardv1.ListOwnRequest { return new(boardv1.ListOwnRequest) },
					func(a *boardv1.ListOwnResponse) check.Page { return titles(a.GetTasks()) }),
			},
		},
		Create: check.NewMutation(boardv1connect.BoardServiceCreateTaskProcedure,
			func(r check.Row) *boardv1.CreateTaskRequest {
				return &boardv1.CreateTaskRequest{Tenant: Tenant, Project: r.Place, Title: r.Cell.String()}
			},
			func(a *boardv1.CreateTaskResponse) string { return a.GetTask().GetId() }),
		Told:  "tenants/" + Tenant + "/told",
		Table: check.Table{Name: "work.tasks", ID: "id", Place: "project", Cell: "title", Others: map[string]any{"tenant": Tenant}},
	}
}

func titles(tasks []*boardv1.Task) (page check.Page) {
	for _, t := range tasks {
		page.Add("", t.GetTitle())
	}
	return page
}

// TokenOf is the token of the one whose own project it is.
func TokenOf(_ context.Context, project string) (string, error) { return Tenant + ":" + project, nil }
