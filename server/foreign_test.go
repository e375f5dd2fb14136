package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql's driver "pgx"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// foreign is a message service that has never heard of our store: create and
// list go by a client of Postgres of its own.
type foreign struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	insert func(ctx context.Context, conversation, body string) (id string, err error)
	ids    func(ctx context.Context, conversation string) ([]string, error)
}

func (f *foreign) CreateMessage(ctx context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	id, err := f.insert(ctx, req.Msg.GetParent()[len("conversations/"):], req.Msg.GetMessage().GetBody())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&messagesv1.CreateMessageResponse{Message: &messagesv1.Message{Name: id}}), nil
}

func (f *foreign) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	ids, err := f.ids(ctx, req.Msg.GetParent()[len("conversations/"):])
	if err != nil {
		return nil, err
	}
	list := new(messagesv1.ListMessagesResponse)
	for _, id := range ids {
		list.Messages = append(list.Messages, &messagesv1.Message{Name: id})
	}
	return connect.NewResponse(list), nil
}

const (
	foreignInsert = "insert into messages (id, conversation, author, body) values ($1, $2, 'ann', $3)"
	foreignList   = "select coalesce(string_agg(id::text, ','), '') from messages where conversation = $1"
)

// F48: a service that reads and writes on a pool of its own keeps G5: every own
// write is in a read at-least its stamp, while others write and read.
func TestRun_F48_writesOnAForeignPool(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, url string) *foreign{
		"pgx":          foreignPgx,
		"database/sql": foreignSQL,
	} {
		t.Run(name, func(t *testing.T) {
			database := testkit.Migrated(t)
			service := open(t, database)
			r := start(t, database, func(c *live.Config) {
				c.MaxSettle = 0 // the default: 250 ms
				c.Handler = func(node *server.Node) (string, http.Handler) {
					return messagesv1connect.NewMessageServiceHandler(service, node.HandlerOptions()...)
				}
			})
			const writers, writes = 4, 30
			var all errgroup.Group
			for w := range writers {
				all.Go(func() error {
					for i := range writes {
						// Two writers share a conversation, and with it kept answers.
						if err := r.readBack(strconv.Itoa(w/2), i); err != nil {
							return fmt.Errorf("writer %d, write %d: %w", w, i, err)
						}
					}
					return nil
				})
			}
			require.NoError(t, all.Wait())
		})
	}
}

// F60: what the database URL says to the pool is no news for the server that
// capture and migrations connect to.
func TestRun_F60_parametersOfThePool(t *testing.T) {
	database := testkit.WithParam(t, testkit.Database(t), "pool_max_conns", "3")
	r := start(t, testkit.WithParam(t, database, "default_query_exec_mode", "exec"), nil)
	require.NoError(t, r.readBack("7", 1))
}

// F60: capture through a pooler is refused at start, with what to do instead;
// migrations take the direct way.
func TestRun_F60_pooler(t *testing.T) {
	database := testkit.Database(t)
	pooler := testkit.NewPgBouncer(t, database, "transaction")
	for _, skip := range []bool{false, true} {
		require.ErrorContains(t, refused(t, server.Config{DatabaseURL: pooler.URL(), SkipMigrate: skip}), "server.Config.CaptureURL")
	}
	r := start(t, pooler.URL(), func(c *live.Config) { c.CaptureURL = database })
	require.NoError(t, r.readBack("7", 1))
}

// readBack writes a message and looks for it in a read at-least its stamp.
func (r *running) readBack(conversation string, i int) error {
	parent := "conversations/" + conversation
	created, err := r.client().CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: parent, Message: &messagesv1.Message{Author: "ann", Body: strconv.Itoa(i)},
	}))
	if err != nil {
		return err
	}
	rev, err := freshet.ParseRevision(created.Header().Get(intercept.HeaderRevision))
	if err != nil {
		return err
	}
	list, err := r.client().ListMessages(r.ctx, request(&messagesv1.ListMessagesRequest{Parent: parent}, rev))
	if err != nil {
		return err
	}
	for _, m := range list.Msg.GetMessages() {
		if m.GetName() == created.Msg.GetMessage().GetName() {
			return nil
		}
	}
	return fmt.Errorf("written at %v, and not in a read at-least that, stamped %v (%s)", rev,
		list.Header().Get(intercept.HeaderRevision), list.Header().Get(intercept.HeaderCache))
}

func foreignPgx(t *testing.T, url string) *foreign {
	pool, err := pgxpool.New(testkit.Context(t), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &foreign{
		insert: func(ctx context.Context, conversation, body string) (string, error) {
			id := uuid.NewString()
			_, err := pool.Exec(ctx, foreignInsert, id, conversation, body)
			return id, err
		},
		ids: func(ctx context.Context, conversation string) ([]string, error) {
			var ids string
			err := pool.QueryRow(ctx, foreignList, conversation).Scan(&ids)
			return strings.Split(ids, ","), err
		},
	}
}

func foreignSQL(t *testing.T, url string) *foreign {
	pool, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return &foreign{
		insert: func(ctx context.Context, conversation, body string) (string, error) {
			id := uuid.NewString()
			tx, err := pool.BeginTx(ctx, nil)
			if err != nil {
				return "", err
			}
			defer func() { _ = tx.Rollback() }() // after COMMIT it does nothing
			if _, err := tx.ExecContext(ctx, foreignInsert, id, conversation, body); err != nil {
				return "", err
			}
			return id, tx.Commit()
		},
		ids: func(ctx context.Context, conversation string) ([]string, error) {
			var ids string
			err := pool.QueryRowContext(ctx, foreignList, conversation).Scan(&ids)
			return strings.Split(ids, ","), err
		},
	}
}
