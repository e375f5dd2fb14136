// Package boards is a service for tests whose answers depend on rows that their
// requests don't name (response_topics): boards.v1.BoardService. Its tables are
// written by SQL.
package boards

import (
	"context"
	"net/http"
	"strconv"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
	"github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1/boardsv1connect"
	"github.com/freshet-dev/freshet/store"
)

// Service is what it declares.
func Service() protoreflect.ServiceDescriptor {
	return boardsv1.File_boards_v1_boards_proto.Services().ByName("BoardService")
}

const tables = `
	create table if not exists tasks (id bigint primary key, board bigint not null, text varchar not null default '');
	create table if not exists comments (id bigint primary key, task bigint not null references tasks on delete cascade, text varchar not null default '');
	create table if not exists reactions (id bigint primary key, comment bigint not null references comments on delete cascade, text varchar not null default '');
	create index if not exists tasks_board on tasks (board);
	create index if not exists comments_task on comments (task);
	create index if not exists reactions_comment on reactions (comment);
	alter table tasks replica identity full;
	alter table comments replica identity full;
	alter table reactions replica identity full`

// Migrate makes its tables: server.Config.Migrate.
func Migrate(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, tables)
	return err
}

const look = `
	select json_build_object('tasks', coalesce(json_agg(json_build_object('id', t.id::text, 'text', t.text, 'comments', (
		select coalesce(json_agg(json_build_object('id', c.id::text, 'text', c.text, 'reactions', (
			select coalesce(json_agg(json_build_object('id', r.id::text, 'text', r.text) order by r.id), '[]')
			from reactions r where r.comment = c.id)) order by c.id), '[]')
		from comments c where c.task = t.id)) order by t.id), '[]'))
	from tasks t where t.board = $1`

// Querier is a connection or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Look is what the database holds of a board.
func Look(ctx context.Context, tx Querier, board int64) (*boardsv1.GetBoardResponse, error) {
	var text []byte
	if err := tx.QueryRow(ctx, look, board).Scan(&text); err != nil {
		return nil, err
	}
	res := new(boardsv1.GetBoardResponse)
	return res, protojson.Unmarshal(text, res)
}

// Topic is what GetBoard's request depends on.
func Topic(board int64) string { return "boards/" + strconv.FormatInt(board, 10) + "/tasks" }

type service struct{ db *store.DB }

// Handler serves it.
func Handler(db *store.DB, opts ...connect.HandlerOption) (string, http.Handler) {
	return boardsv1connect.NewBoardServiceHandler(service{db}, opts...)
}

func (s service) GetBoard(ctx context.Context, req *connect.Request[boardsv1.GetBoardRequest]) (*connect.Response[boardsv1.GetBoardResponse], error) {
	var res *boardsv1.GetBoardResponse
	err := s.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		res, err = Look(ctx, tx, req.Msg.GetBoard())
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
