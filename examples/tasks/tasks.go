package main

import (
	"context"
	"database/sql"
	"errors"

	"connectrpc.com/connect"

	boardv1 "example.com/tasks/gen/board/v1"

	"github.com/freshet-dev/freshet/store"
)

// tasks is the half of the service that keeps its own pool, of database/sql: the
// first depth. Its transactions begin with their caller's claims.
type tasks struct {
	db      *sql.DB
	session func(context.Context) (*store.Session, error)
}

// inTx runs do in a transaction, as who calls.
func (s *tasks) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if set, args := session.Statement(); set != "" {
		if _, err := tx.ExecContext(ctx, set, args...); err != nil {
			return err
		}
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *tasks) ListTasks(ctx context.Context, req *connect.Request[boardv1.ListTasksRequest]) (*connect.Response[boardv1.ListTasksResponse], error) {
	found, err := s.list(ctx, `project = $2 and status = $3::work.status`, req.Msg.GetTenant(), req.Msg.GetProject(), req.Msg.GetStatus())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&boardv1.ListTasksResponse{Tasks: found}), nil
}

func (s *tasks) ListDue(ctx context.Context, req *connect.Request[boardv1.ListDueRequest]) (*connect.Response[boardv1.ListDueResponse], error) {
	if req.Msg.GetDue() == "" { // what is no day, or another spelling of one, the node refuses
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("due: want a day, as 2026-11-27"))
	}
	found, err := s.list(ctx, `due = $2::date`, req.Msg.GetTenant(), req.Msg.GetDue())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&boardv1.ListDueResponse{Tasks: found}), nil
}

func (s *tasks) list(ctx context.Context, where string, args ...any) (found []*boardv1.Task, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) (err error) {
		const columns = `select id::text, title, status::text, coalesce(due::text, '') from work.tasks where tenant = $1 and deleted_at is null and `
		rows, err := tx.QueryContext(ctx, columns+where+` order by title, id`, args...) //nolint:gosec // where is one of ours
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			t := new(boardv1.Task)
			if err := rows.Scan(&t.Id, &t.Title, &t.Status, &t.Due); err != nil {
				return err
			}
			found = append(found, t)
		}
		return rows.Err()
	})
	return found, err
}

func (s *tasks) ListComments(ctx context.Context, req *connect.Request[boardv1.ListCommentsRequest]) (*connect.Response[boardv1.ListCommentsResponse], error) {
	answer := new(boardv1.ListCommentsResponse)
	err := s.inTx(ctx, func(tx *sql.Tx) (err error) {
		rows, err := tx.QueryContext(ctx, `select author, body from work."taskComments" where tenant = $1 and task = $2 order by id`, req.Msg.GetTenant(), req.Msg.GetTask())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			c := new(boardv1.Comment)
			if err := rows.Scan(&c.Author, &c.Body); err != nil {
				return err
			}
			answer.Comments = append(answer.Comments, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

const commentSQL = `insert into work."taskComments" (tenant, task, author, body) values ($1, $2, $3, $4)`

func (s *tasks) AddComment(ctx context.Context, req *connect.Request[boardv1.AddCommentRequest]) (*connect.Response[boardv1.AddCommentResponse], error) {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, commentSQL,
			req.Msg.GetTenant(), req.Msg.GetTask(), req.Msg.GetComment().GetAuthor(), req.Msg.GetComment().GetBody())
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(new(boardv1.AddCommentResponse)), nil
}

func (s *tasks) AddLabel(ctx context.Context, req *connect.Request[boardv1.AddLabelRequest]) (*connect.Response[boardv1.AddLabelResponse], error) {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `insert into task_labels (tenant, task, label) values ($1, $2, $3) on conflict do nothing`,
			req.Msg.GetTenant(), req.Msg.GetTask(), req.Msg.GetLabel())
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(new(boardv1.AddLabelResponse)), nil
}
