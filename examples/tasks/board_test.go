package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	boardv1 "example.com/tasks/gen/board/v1"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/server/intercept"
)

// step is a change by SQL, past the service, and what a board shows once it was read
// again.
type step struct {
	table, sql string
	shows      func(*boardv1.ListBoardResponse) bool
}

// follow takes a query through steps: the next change is made when the answer shows
// the last one.
func follow[Req, Res any](t *testing.T, q *client.Query[Req, Res], steps int, change func(i int), shows func(i int, answer *Res) bool, name func(i int) string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = q.Run(ctx) }) // it ends with ctx
	at := -1
	for s := range q.Changes(ctx) {
		if !s.Fresh || s.Err != nil || at >= 0 && !shows(at, s.Value) {
			continue
		}
		if at++; at == steps {
			return
		}
		change(at)
	}
	require.FailNow(t, "never shown", "the change of %s", name(at))
}

// A change of each table that a board is made of, by SQL, has it read again at a
// client. No read looks into more than it declares: the program audits all of them.
func TestListBoard_everyTable(t *testing.T) {
	url := start(t)
	execute(t, `insert into work.projects values ('acme', 'apollo', 'Apollo'); insert into labels values ('acme', 'bug', 'Bug');
insert into work.tasks (tenant, project, title) values ('acme', 'apollo', 'Land')`)
	acme := as(t, url, "acme")
	q, err := client.NewQuery(acme.follow, acme.boards.ListBoard, &boardv1.ListBoardRequest{Tenant: "acme", Project: "apollo"})
	require.NoError(t, err)
	first := func(b *boardv1.ListBoardResponse) *boardv1.Task { return append(b.GetTasks(), nil)[0] }
	steps := []step{
		{"projects", `update work.projects set title = 'Apollo 11' where tenant = 'acme'`, func(b *boardv1.ListBoardResponse) bool { return b.GetProject().GetTitle() == "Apollo 11" }},
		{"tasks", `insert into work.tasks (tenant, project, title, due) values ('acme', 'apollo', 'Return', '2026-12-24')`, func(b *boardv1.ListBoardResponse) bool {
			return len(b.GetTasks()) == 2 && b.GetTasks()[1].GetDue() == "2026-12-24"
		}},
		{"tasks, by its enum", `update work.tasks set status = 'in progress' where title = 'Land'`, func(b *boardv1.ListBoardResponse) bool { return first(b).GetStatus() == "in progress" }},
		{"taskComments", `insert into work."taskComments" (tenant, task, author, body) select 'acme', id, 'ann', 'now?' from work.tasks where title = 'Land'`, func(b *boardv1.ListBoardResponse) bool { return first(b).GetComments() == 1 }},
		{"taskComments, by a delete", `delete from work."taskComments" where tenant = 'acme'`, func(b *boardv1.ListBoardResponse) bool { return first(b).GetComments() == 0 }},
		{"task_labels", `insert into task_labels select 'acme', id, 'bug' from work.tasks where title = 'Land'`, func(b *boardv1.ListBoardResponse) bool { return strings.Join(first(b).GetLabels(), " ") == "Bug" }},
		{"labels", `update labels set name = 'Defect' where tenant = 'acme'`, func(b *boardv1.ListBoardResponse) bool { return strings.Join(first(b).GetLabels(), " ") == "Defect" }},
		{"activity, of a partition", `insert into activity (tenant, project, at, what) values ('acme', 'apollo', '2026-07-20', 'landed')`, func(b *boardv1.ListBoardResponse) bool { return b.GetLastActivity() == "landed" }},
		{"activity, of another one", `insert into activity (tenant, project, at, what) values ('acme', 'apollo', '2030-07-24', 'returned')`, func(b *boardv1.ListBoardResponse) bool { return b.GetLastActivity() == "returned" }},
		{"board_stats, which a job tells", refreshSQL, func(b *boardv1.ListBoardResponse) bool { return b.GetStats().GetOpen() == 2 }},
		{"the enum's labels", `alter type work.status rename value 'in progress' to 'doing'`, func(b *boardv1.ListBoardResponse) bool { return first(b).GetStatus() == "doing" }},
		{"the enum's labels, back", `alter type work.status rename value 'doing' to 'in progress'`, func(b *boardv1.ListBoardResponse) bool { return first(b).GetStatus() == "in progress" }},
		{"tasks, softly deleted", `update work.tasks set deleted_at = now() where title = 'Return'`, func(b *boardv1.ListBoardResponse) bool { return len(b.GetTasks()) == 1 }},
		{"tasks, of another project", `insert into work.projects values ('acme', 'gemini', 'Gemini'); update work.tasks set project = 'gemini' where title = 'Land'`, func(b *boardv1.ListBoardResponse) bool { return len(b.GetTasks()) == 0 }},
	}
	follow(t, q, len(steps), func(i int) { execute(t, steps[i].sql) },
		func(i int, b *boardv1.ListBoardResponse) bool { return steps[i].shows(b) }, func(i int) string { return steps[i].table })
}

// Lists by the label of an enum and by a day follow a task that moves.
func TestLists_byStatusAndDay(t *testing.T) {
	url := start(t)
	execute(t, `insert into work.projects values ('umbrella', 'hive', 'Hive')`)
	umbrella := as(t, url, "umbrella")
	status, err := client.NewQuery(umbrella.follow, umbrella.tasks.ListTasks, &boardv1.ListTasksRequest{Tenant: "umbrella", Project: "hive", Status: "in progress"})
	require.NoError(t, err)
	require.Equal(t, []string{"tenants/umbrella/projects/hive/status/in%20progress"}, status.Topics())
	day, err := client.NewQuery(umbrella.follow, umbrella.tasks.ListDue, &boardv1.ListDueRequest{Tenant: "umbrella", Due: "2026-11-27"})
	require.NoError(t, err)
	changes := []string{
		`insert into work.tasks (tenant, project, title, status, due) values ('umbrella', 'hive', 'Contain', 'in progress', '2026-11-27')`,
		`update work.tasks set status = 'done', due = null where tenant = 'umbrella'`,
	}
	name := func(i int) string { return changes[i] }
	follow(t, status, len(changes), func(i int) { execute(t, changes[i]) },
		func(i int, a *boardv1.ListTasksResponse) bool { return len(a.GetTasks()) == 1-i }, name)
	follow(t, day, len(changes), func(i int) { execute(t, changes[i]) },
		func(i int, a *boardv1.ListDueResponse) bool { return len(a.GetTasks()) == 1-i }, name)
}

// A read that spells a value as Postgres wouldn't would follow a topic that no row
// tells, so it is refused.
func TestReads_F56_otherSpellings(t *testing.T) {
	stark := as(t, start(t), "stark")
	_, err := stark.tasks.ListDue(t.Context(), connect.NewRequest(&boardv1.ListDueRequest{Tenant: "stark", Due: "2026-1-5"}))
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	require.ErrorContains(t, err, `it writes "2026-01-05"`)
	_, err = stark.tasks.ListComments(t.Context(), connect.NewRequest(&boardv1.ListCommentsRequest{Tenant: "stark", Task: "01928C7E-0000-7000-8000-00000000000A"}))
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	require.ErrorContains(t, err, `it writes "01928c7e-0000-7000-8000-00000000000a"`)
}

// What either half of the service wrote is in the board that is read at-least its
// stamp.
func TestWrites_ofBothHalves(t *testing.T) {
	url := start(t)
	execute(t, `insert into work.projects values ('initech', 'y2k', 'Y2K'); insert into labels values ('initech', 'tps', 'TPS')`)
	initech := as(t, url, "initech")
	board := func(after client.Stamp) *boardv1.ListBoardResponse {
		t.Helper()
		require.False(t, after.Revision.IsZero(), "a write's answer has no stamp")
		b, err := initech.boards.ListBoard(client.AtLeast(t.Context(), after.Revision), connect.NewRequest(&boardv1.ListBoardRequest{Tenant: "initech", Project: "y2k"}))
		require.NoError(t, err)
		return b.Msg
	}
	for i := range 5 {
		var created, moved, commented, labelled, deleted client.Stamp
		task, err := initech.boards.CreateTask(client.CaptureStamp(t.Context(), &created), connect.NewRequest(&boardv1.CreateTaskRequest{Tenant: "initech", Project: "y2k", Title: "Dates", Due: "1999-12-31"}))
		require.NoError(t, err)
		id := task.Msg.GetTask().GetId()
		require.Len(t, board(created).GetTasks(), 1, i)
		_, err = initech.boards.MoveTask(client.CaptureStamp(t.Context(), &moved), connect.NewRequest(&boardv1.MoveTaskRequest{Tenant: "initech", Project: "y2k", Task: id, Status: "done"}))
		require.NoError(t, err)
		require.Equal(t, "done", board(moved).GetTasks()[0].GetStatus())
		require.Equal(t, "moved to done", board(moved).GetLastActivity())
		_, err = initech.tasks.AddComment(client.CaptureStamp(t.Context(), &commented), connect.NewRequest(&boardv1.AddCommentRequest{Tenant: "initech", Task: id, Comment: &boardv1.Comment{Author: "bill", Body: "yeah"}}))
		require.NoError(t, err)
		require.EqualValues(t, 1, board(commented).GetTasks()[0].GetComments())
		comments, err := initech.tasks.ListComments(client.AtLeast(t.Context(), commented.Revision), connect.NewRequest(&boardv1.ListCommentsRequest{Tenant: "initech", Task: id}))
		require.NoError(t, err)
		require.Equal(t, "yeah", comments.Msg.GetComments()[0].GetBody())
		_, err = initech.tasks.AddLabel(client.CaptureStamp(t.Context(), &labelled), connect.NewRequest(&boardv1.AddLabelRequest{Tenant: "initech", Task: id, Label: "tps"}))
		require.NoError(t, err)
		require.Equal(t, []string{"TPS"}, board(labelled).GetTasks()[0].GetLabels())
		_, err = initech.boards.DeleteTask(client.CaptureStamp(t.Context(), &deleted), connect.NewRequest(&boardv1.DeleteTaskRequest{Tenant: "initech", Project: "y2k", Task: id}))
		require.NoError(t, err)
		require.Empty(t, board(deleted).GetTasks())
	}
}

// Tenants have boards of the same name. None sees the other's, whether by asking for
// it, by its kept answer, by a stream, or by a write; and rows are hidden from the role
// even where nothing asks who may what.
func TestTenants_seeTheirOwn(t *testing.T) {
	url := start(t)
	for _, tenant := range []string{"tyrell", "wallace"} {
		execute(t, `insert into work.projects values ('`+tenant+`', 'nexus', 'of `+tenant+`'); insert into work.tasks (tenant, project, title) values ('`+tenant+`', 'nexus', 'of `+tenant+`')`)
	}
	for range 3 { // the later ones may be kept answers
		for _, tenant := range []string{"tyrell", "wallace"} {
			b, err := as(t, url, tenant).boards.ListBoard(t.Context(), connect.NewRequest(&boardv1.ListBoardRequest{Tenant: tenant, Project: "nexus"}))
			require.NoError(t, err)
			require.Equal(t, "of "+tenant, b.Msg.GetProject().GetTitle())
			require.Len(t, b.Msg.GetTasks(), 1)
		}
	}
	tyrell := as(t, url, "tyrell")
	_, err := tyrell.boards.ListBoard(t.Context(), connect.NewRequest(&boardv1.ListBoardRequest{Tenant: "wallace", Project: "nexus"}))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	_, err = tyrell.tasks.AddComment(t.Context(), connect.NewRequest(&boardv1.AddCommentRequest{Tenant: "wallace", Task: "00000000-0000-0000-0000-000000000001"}))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.ErrorContains(t, tyrell.follow.Stream(ctx, []string{"tenants/wallace/comments"}, func(client.Event) error { return nil }), "403")

	conn, err := pgx.Connect(t.Context(), service())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	for claims, want := range map[string]string{`{"tenant": "tyrell"}`: "of tyrell", ``: "", `{}`: ""} {
		var seen string
		require.NoError(t, conn.QueryRow(t.Context(), `
with me as materialized (select set_config('request.jwt.claims', $1, false))
select coalesce(string_agg(title, ' '), '') from me, work.tasks where title like 'of %'`, claims).Scan(&seen))
		require.Equal(t, want, seen, claims)
	}
}

// A board whose declaration forgets one of its topics is caught by the audit: it
// would read a table and never hear of it.
func TestAudit_oneForgottenTopic(t *testing.T) {
	start(t) // the schema
	execute(t, `insert into work.projects values ('soylent', 'green', 'Green'); insert into labels values ('soylent', 'p', 'People');
insert into work.tasks (tenant, project, title) values ('soylent', 'green', 'Tell'); insert into task_labels select 'soylent', id, 'p' from work.tasks where tenant = 'soylent'`+`;`)
	for forgotten, table := range map[string]string{"/comments": "work.taskComments", "/labels": "public.labels", "/stats": "work.board_stats"} {
		t.Run(table, func(t *testing.T) {
			url := startForgetful(t, forgotten, intercept.AuditAll)
			_, err := as(t, url, "soylent").boards.ListBoard(t.Context(), connect.NewRequest(&boardv1.ListBoardRequest{Tenant: "soylent", Project: "green"}))
			require.ErrorContains(t, err, "ListBoard reads table "+table)
		})
	}
}
