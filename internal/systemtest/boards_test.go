package systemtest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/boards"
	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
	"github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1/boardsv1connect"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

const boardCount = 3

// shelf is a server of boards, one Go client for each board, and a connection that writes.
type shelf struct {
	url     string
	conn    *pgx.Conn
	queries []*client.Query[boardsv1.GetBoardRequest, boardsv1.GetBoardResponse]
}

func newShelf(t *testing.T, change func(*live.Config)) *shelf {
	t.Helper()
	database := testkit.Database(t)
	running := live.Start(t, database, func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{boards.Service()}
		c.Migrate, c.Check = boards.Migrate, nil
		c.AuditReads = intercept.AuditAll
		c.Handler = func(node *server.Node) (string, http.Handler) {
			return boards.Handler(node.DB(), node.HandlerOptions()...)
		}
		if change != nil {
			change(c)
		}
	})
	return &shelf{url: running.URL, conn: testkit.Conn(t, database)}
}

// follow has a client of each board, as long as the test runs.
func (s *shelf) follow(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	freshet, err := client.New(s.url)
	require.NoError(t, err)
	service := boardsv1connect.NewBoardServiceClient(http.DefaultClient, s.url, connect.WithInterceptors(client.NewInterceptor()))
	ended := make(chan error, boardCount)
	for i := range boardCount {
		q, err := client.NewQuery(freshet, service.GetBoard, &boardsv1.GetBoardRequest{Board: int64(i)})
		require.NoError(t, err)
		require.Equal(t, []string{boards.Topic(int64(i))}, q.Topics())
		s.queries = append(s.queries, q)
		go func() { ended <- q.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range boardCount {
			require.ErrorIs(t, <-ended, context.Canceled)
		}
	})
}

// agree waits until every client holds what Postgres does.
func (s *shelf) agree(t *testing.T, what string) {
	t.Helper()
	for i, q := range s.queries {
		want, err := boards.Look(t.Context(), s.conn, int64(i))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var got client.Snapshot[boardsv1.GetBoardResponse]
		for got = range q.Changes(ctx) {
			if got.Fresh && proto.Equal(got.Value, want) {
				break
			}
		}
		err = ctx.Err()
		cancel()
		require.NoError(t, err, "G3: after %s the client of board %d holds %v, Postgres %v; it follows %v", what, i, got, want, q.Topics())
	}
}

// An answer with too many elements is followed by the wildcard, and by its elements
// again when they are few enough.
func TestBoards_wildcard(t *testing.T) {
	s := newShelf(t, nil)
	exec := func(sql string) {
		_, err := s.conn.Exec(t.Context(), sql)
		require.NoError(t, err)
		s.agree(t, sql)
	}
	s.follow(t)
	exec("insert into tasks values (1, 0, 'a')")
	exec("insert into comments select n, 1, 'c' from generate_series(1, 1200) n")
	require.Equal(t, []string{"boards/0/tasks", "tasks/1/comments", "comments/-/reactions"}, s.queries[0].Topics())
	exec("insert into reactions values (1, 1100, 'x')")
	exec("update reactions set comment = 7")
	exec("delete from comments where id > 2 and id <> 7")
	require.Equal(t, []string{"boards/0/tasks", "tasks/1/comments", "comments/1/reactions", "comments/2/reactions", "comments/7/reactions"}, s.queries[0].Topics())
	exec("update reactions set text = 'y'")
	exec("truncate tasks cascade")
}

// The audit sees the tables of the answer's topics: a board without the comments'
// template reads a table that it doesn't declare.
func TestBoards_F52_forgottenTopic(t *testing.T) {
	s := newShelf(t, func(c *live.Config) {
		c.Services = []protoreflect.ServiceDescriptor{boards.Forgetful(t)}
	})
	_, err := s.conn.Exec(t.Context(), "insert into tasks values (1, 0, 'a'); insert into comments values (1, 1, 'c')")
	require.NoError(t, err)
	service := boardsv1connect.NewBoardServiceClient(http.DefaultClient, s.url)
	_, err = service.GetBoard(t.Context(), connect.NewRequest(&boardsv1.GetBoardRequest{}))
	require.ErrorContains(t, err, "reads table public.reactions")
}
