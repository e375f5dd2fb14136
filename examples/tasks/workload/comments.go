package workload

import (
	"github.com/freshet-dev/freshet/check"

	boardv1 "example.com/tasks/gen/board/v1"
	"example.com/tasks/gen/board/v1/boardv1connect"
)

// CommentsSQL makes the view that holds the rows of Comments: tasks that somebody has
// said something about, with what was said last. The checker writes to it as if it were
// a table, and comments know their task only.
const CommentsSQL = `
create or replace view work.commented as
select t.tenant, t.project, t.id, c.body from work.tasks t cross join lateral (
  select c.body from work."taskComments" c where c.tenant = t.tenant and c.task = t.id order by c.id desc limit 1
) c where t.deleted_at is null;

create or replace function work.write_commented() returns trigger language plpgsql as $$ begin
  if tg_op = 'INSERT' then
    insert into work.tasks (tenant, project, id, title) values (new.tenant, new.project, new.id, 'Checked');
    insert into work."taskComments" (tenant, task, author, body) values (new.tenant, new.id, 'checker', new.body);
    return new;
  elsif tg_op = 'UPDATE' then
    update work.tasks set project = new.project where tenant = old.tenant and id = old.id and project <> new.project;
    update work."taskComments" set body = new.body where tenant = old.tenant and task = old.id and body = old.body;
    return new;
  end if;
  delete from work."taskComments" where tenant = old.tenant and task = old.id;
  delete from work.tasks where tenant = old.tenant and id = old.id;
  return old;
end $$;

create or replace trigger write instead of insert or update or delete on work.commented
for each row execute function work.write_commented()`

// Comments is the service as one whose rows are tasks by what was said about them last.
// The request for a board names none of these comments: its answer does.
func Comments() check.Workload {
	return check.Workload{
		Topics: []check.Topic{
			{
				Kind: check.OfPlace, Name: "tenants/" + Tenant + "/projects/{project}/tasks", ByRow: true,
				Read: check.NewQuery(boardv1connect.BoardServiceListBoardProcedure,
					func(a check.Ask) *boardv1.ListBoardRequest {
						return &boardv1.ListBoardRequest{Tenant: Tenant, Project: a.Place}
					},
					func(a *boardv1.ListBoardResponse) (page check.Page) {
						for _, t := range a.GetTasks() {
							page.AddRow(t.GetId(), t.GetLastComment())
						}
						return page
					}),
			},
			{
				Kind: check.OfRow, Name: "tenants/" + Tenant + "/tasks/{id}/comments",
				Read: check.NewQuery(boardv1connect.TaskServiceListCommentsProcedure,
					func(a check.Ask) *boardv1.ListCommentsRequest {
						return &boardv1.ListCommentsRequest{Tenant: Tenant, Task: a.ID}
					},
					func(a *boardv1.ListCommentsResponse) (page check.Page) {
						if all := a.GetComments(); len(all) > 0 {
							page.Add("", all[len(all)-1].GetBody())
						}
						return page
					}),
			},
		},
		Create: check.NewMutation(boardv1connect.BoardServiceCreateTaskProcedure,
			func(r check.Row) *boardv1.CreateTaskRequest {
				return &boardv1.CreateTaskRequest{Tenant: Tenant, Project: r.Place, Title: "Checked", Comment: comment(r)}
			},
			func(a *boardv1.CreateTaskResponse) string { return a.GetTask().GetId() }),
		Update: check.NewMutation[boardv1.AddCommentRequest, boardv1.AddCommentResponse](boardv1connect.TaskServiceAddCommentProcedure,
			func(r check.Row) *boardv1.AddCommentRequest {
				return &boardv1.AddCommentRequest{Tenant: Tenant, Task: r.ID, Comment: comment(r)}
			}, nil),
		Told:  "tenants/" + Tenant + "/told",
		Table: check.Table{Name: "work.commented", ID: "id", Place: "project", Cell: "body", Others: map[string]any{"tenant": Tenant}},
	}
}

func comment(r check.Row) *boardv1.Comment {
	return &boardv1.Comment{Author: "checker", Body: r.Cell.String()}
}
