package main

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	boardv1 "example.com/tasks/gen/board/v1"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// boards is the half of the service that uses Freshet's pool, the third depth: plain
// pgx, each transaction with its caller's claims, audited, COMMITs looked up.
type boards struct{ db *store.DB }

func (s *boards) ListBoard(ctx context.Context, req *connect.Request[boardv1.ListBoardRequest]) (*connect.Response[boardv1.ListBoardResponse], error) {
	answer := new(boardv1.ListBoardResponse)
	err := s.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error { // all of one moment
		answer = &boardv1.ListBoardResponse{Project: new(boardv1.Project)}
		var open, done *int32
		err := tx.QueryRow(ctx, `
select p.tenant, p.id, p.title, s.open, s.done,
  coalesce((select a.what from activity a where a.tenant = p.tenant and a.project = p.id order by a.at desc, a.id desc limit 1), '')
from work.projects p left join work.own_stats s on s.tenant = p.tenant and s.project = p.id
where p.tenant = $1 and p.id = $2`, req.Msg.GetTenant(), req.Msg.GetProject()).
			Scan(&answer.Project.Tenant, &answer.Project.Id, &answer.Project.Title, &open, &done, &answer.LastActivity)
		if err != nil {
			return err
		}
		if open != nil && done != nil {
			answer.Stats = &boardv1.Stats{Open: *open, Done: *done}
		}
		rows, err := tx.Query(ctx, `
select t.id::text, t.title, t.status::text, coalesce(t.due::text, ''), count(distinct c.id)::int,
  coalesce(array_agg(distinct l.name order by l.name) filter (where l.name is not null), '{}'),
  coalesce((array_agg(c.body order by c.id desc))[1], '')
from work.tasks t
left join work."taskComments" c on c.tenant = t.tenant and c.task = t.id
left join task_labels tl on tl.tenant = t.tenant and tl.task = t.id
left join labels l on l.tenant = tl.tenant and l.id = tl.label
where t.tenant = $1 and t.project = $2 and t.deleted_at is null
group by t.id, t.title, t.status, t.due order by t.title, t.id`, req.Msg.GetTenant(), req.Msg.GetProject())
		if err != nil {
			return err
		}
		answer.Tasks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*boardv1.Task, error) {
			t := new(boardv1.Task)
			return t, row.Scan(&t.Id, &t.Title, &t.Status, &t.Due, &t.Comments, &t.Labels, &t.LastComment)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

func (s *boards) ListOwn(ctx context.Context, _ *connect.Request[boardv1.ListOwnRequest]) (*connect.Response[boardv1.ListOwnResponse], error) {
	answer := new(boardv1.ListOwnResponse)
	err := s.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		who := server.PrincipalOf(ctx)
		rows, err := tx.Query(ctx, `
select id::text, title, status::text, coalesce(due::text, '') from work.tasks
where tenant = $1 and project = $2 and deleted_at is null order by title, id`, who.Claims["tenant"], who.Claims["sub"])
		if err != nil {
			return err
		}
		answer.Tasks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*boardv1.Task, error) {
			t := new(boardv1.Task)
			return t, row.Scan(&t.Id, &t.Title, &t.Status, &t.Due)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

func (s *boards) CreateTask(ctx context.Context, req *connect.Request[boardv1.CreateTaskRequest]) (*connect.Response[boardv1.CreateTaskResponse], error) {
	task := &boardv1.Task{Title: req.Msg.GetTitle(), Due: req.Msg.GetDue()}
	err := s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
insert into work.tasks (tenant, project, title, due) values ($1, $2, $3, nullif($4, '')::date) returning id::text, status::text`,
			req.Msg.GetTenant(), req.Msg.GetProject(), task.GetTitle(), task.GetDue()).Scan(&task.Id, &task.Status)
		if err != nil {
			return err
		}
		if c := req.Msg.GetComment(); c != nil {
			if _, err := tx.Exec(ctx, commentSQL, req.Msg.GetTenant(), task.GetId(), c.GetAuthor(), c.GetBody()); err != nil {
				return err
			}
		}
		return note(ctx, tx, req.Msg.GetTenant(), req.Msg.GetProject(), "created "+task.GetTitle())
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&boardv1.CreateTaskResponse{Task: task}), nil
}

func (s *boards) MoveTask(ctx context.Context, req *connect.Request[boardv1.MoveTaskRequest]) (*connect.Response[boardv1.MoveTaskResponse], error) {
	err := s.change(ctx, req.Msg.GetTenant(), req.Msg.GetProject(), "moved to "+req.Msg.GetStatus(),
		`update work.tasks set status = $4::work.status where tenant = $1 and project = $2 and id = $3 and deleted_at is null`, req.Msg.GetTask(), req.Msg.GetStatus())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(new(boardv1.MoveTaskResponse)), nil
}

func (s *boards) DeleteTask(ctx context.Context, req *connect.Request[boardv1.DeleteTaskRequest]) (*connect.Response[boardv1.DeleteTaskResponse], error) {
	err := s.change(ctx, req.Msg.GetTenant(), req.Msg.GetProject(), "deleted a task",
		`update work.tasks set deleted_at = now() where tenant = $1 and project = $2 and id = $3 and deleted_at is null`, req.Msg.GetTask())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(new(boardv1.DeleteTaskResponse)), nil
}

// change runs an UPDATE of one task, and notes it.
func (s *boards) change(ctx context.Context, tenant, project, what, sql string, args ...any) error {
	return s.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, append([]any{tenant, project}, args...)...)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return connect.NewError(connect.CodeNotFound, errors.New("there is no such task"))
		}
		return note(ctx, tx, tenant, project, what)
	})
}

func note(ctx context.Context, tx pgx.Tx, tenant, project, what string) error {
	_, err := tx.Exec(ctx, `insert into activity (tenant, project, what) values ($1, $2, $3)`, tenant, project, what)
	return err
}
