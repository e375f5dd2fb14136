package systemtest_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
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

var (
	boardSteps = flag.Int("boards.steps", 80, "how often rows move in TestBoards_G3_model, in all")
	boardRooms = flag.Int("boards.rooms", 4, "how many sets of boards it has, side by side")
	boardSeed  = flag.Uint64("boards.seed", 0, "which moves; 0: by the clock")
)

const boardCount = 3

// shelf is a server of boards, and a room of them: one Go client for each board, and a
// connection that writes.
type shelf struct {
	url      string
	database string
	room     int
	conn     *pgx.Conn
	queries  []*client.Query[boardsv1.GetBoardRequest, boardsv1.GetBoardResponse]
}

// idsOfRoom is more than there are steps.
const idsOfRoom = 1_000_000_000

// another is another room of the same server, with boards of its own.
func (s *shelf) another(t *testing.T, room int) *shelf {
	t.Helper()
	return &shelf{url: s.url, database: s.database, room: room, conn: testkit.Conn(t, s.database)}
}

func (s *shelf) board(i int) int64 { return int64(s.room*boardCount + i) }

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
	return &shelf{url: running.URL, database: database, conn: testkit.Conn(t, database)}
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
		q, err := client.NewQuery(freshet, service.GetBoard, &boardsv1.GetBoardRequest{Board: s.board(i)})
		require.NoError(t, err)
		require.Equal(t, []string{boards.Topic(s.board(i))}, q.Topics())
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
	require.NoError(t, s.disagreement(t.Context(), what))
}

func (s *shelf) disagreement(ctx context.Context, what string) error {
	for i, q := range s.queries {
		want, err := boards.Look(ctx, s.conn, s.board(i))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		var got client.Snapshot[boardsv1.GetBoardResponse]
		for got = range q.Changes(ctx) {
			if got.Fresh && proto.Equal(got.Value, want) {
				break
			}
		}
		err = ctx.Err()
		cancel()
		if err != nil {
			return fmt.Errorf("G3: after %s the client of board %d holds %v, Postgres %v; it follows %v", what, s.board(i), got, want, q.Topics())
		}
	}
	return nil
}

// step changes rows at random: they come, go, change and move below another parent,
// alone or several in one transaction.
func (s *shelf) step(ctx context.Context, rng *rand.Rand, n int) (string, error) {
	all := []string{s.change(rng, 2*n)}
	if rng.IntN(3) == 0 {
		all = append(all, s.change(rng, 2*n+1))
	}
	sql := strings.Join(all, "; ")
	_, err := s.conn.Exec(ctx, sql)
	return sql, err
}

// change is one statement. n is an id that no row has had.
func (s *shelf) change(rng *rand.Rand, n int) string {
	level := rng.IntN(3)
	table := []string{"tasks", "comments", "reactions"}[level]
	parent := []string{"board", "task", "comment"}[level]
	one := func(table string) string {
		return fmt.Sprintf("(select id from %s where id / %d = %d order by hashint8(id + %d) limit 1)", table, idsOfRoom, s.room, rng.IntN(1000))
	}
	of := fmt.Sprint(s.board(rng.IntN(boardCount)))
	if level > 0 {
		of = one([]string{"", "tasks", "comments"}[level])
	}
	id := s.room*idsOfRoom + n
	switch rng.IntN(8) {
	case 0, 1, 2:
		return fmt.Sprintf("insert into %s (id, %s, text) select %d, p, 'new' from (select %s::bigint as p) x where p is not null", table, parent, id, of)
	case 3, 4:
		return fmt.Sprintf("update %s set %s = coalesce(%s, %s) where id = %s", table, parent, of, parent, one(table))
	case 5, 6:
		return fmt.Sprintf("update %s set text = '%d' where id = %s", table, n, one(table))
	default:
		return fmt.Sprintf("delete from %s where id = %s", table, one(table))
	}
}

// Topics out of the answer: rows of three levels, of which each knows its parent only,
// move at random, and after each step every client holds what Postgres does.
func TestBoards_G3_model(t *testing.T) {
	seed := *boardSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-boards.seed=%d", seed)
	first := newShelf(t, nil)
	group, ctx := errgroup.WithContext(t.Context())
	for room := range *boardRooms {
		s := first.another(t, room)
		s.follow(t)
		rng := rand.New(rand.NewPCG(seed, uint64(room)))
		group.Go(func() error {
			err := s.disagreement(ctx, "the start")
			for n := 0; n < *boardSteps / *boardRooms && err == nil; n++ {
				var what string
				if what, err = s.step(ctx, rng, n); err == nil {
					err = s.disagreement(ctx, fmt.Sprintf("step %d (%s)", n, what))
				}
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
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
