package depths

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
)

// guarded is a pool of the service's own whose connections the node ties to its
// epoch: depth (b).
func guarded(t *testing.T, n *server.Node, url string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	if change != nil {
		change(config)
	}
	n.Guard(config)
	pool, err := pgxpool.NewWithConfig(testkit.Context(t), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// G5, G6: a service on a pool that the node guards.
func TestDepth_guard(t *testing.T) {
	database := testkit.Migrated(t)
	stress(t, serve(t, database, func(n *server.Node) storage { return overPool(guarded(t, n, database, nil)) }))
}

// A guarded pool that comes to lead to another database doesn't answer: reads and
// writes fail as unavailable until it leads back. The pool's own hooks run on.
func TestGuard_anotherDatabase(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, other string, epoch freshet.Epoch){
		"of no epoch": func(*testing.T, string, freshet.Epoch) {},
		"of a lower epoch": func(t *testing.T, other string, epoch freshet.Epoch) {
			t.Helper()
			give(t, other, epoch-1)
		},
		"of a higher epoch": func(t *testing.T, other string, epoch freshet.Epoch) {
			t.Helper()
			give(t, other, epoch+1)
		},
		// Two databases that were set up in the same second.
		"of the same epoch": func(t *testing.T, other string, epoch freshet.Epoch) {
			t.Helper()
			give(t, other, epoch)
		},
	} {
		t.Run(name, func(t *testing.T) {
			database, other := testkit.Migrated(t), testkit.Migrated(t)
			testkit.Exec(t, database, insertSQL, "01890a5d-ac96-774b-bcce-b302099a8057", "0", "ann", "mine")
			testkit.Exec(t, other, insertSQL, "01890a5d-ac96-774b-bcce-b302099a8058", "0", "eve", "not mine")
			strayed, err := pgx.ParseConfig(other)
			require.NoError(t, err)
			var astray atomic.Bool
			var connected, prepared atomic.Int64
			var pool *pgxpool.Pool
			n := serve(t, database, func(n *server.Node) storage {
				pool = guarded(t, n, database, func(config *pgxpool.Config) {
					config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
						if astray.Load() {
							config.Database = strayed.Database
						}
						return nil
					}
					config.AfterConnect = func(context.Context, *pgx.Conn) error { connected.Add(1); return nil }
					config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared.Add(1); return true, nil }
				})
				return overPool(pool)
			})
			u := n.user(t)
			rev, err := u.lists("mine")
			require.NoError(t, err)
			require.Positive(t, connected.Load())
			require.Positive(t, prepared.Load())
			prepare(t, other, rev.Epoch)

			astray.Store(true)
			pool.Reset()
			u.requireUnanswered(t, rev)
			require.Equal(t, "1", ask(t, other, "select count(*)::text from messages"), "nothing is written there")

			astray.Store(false)
			pool.Reset()
			_, err = u.lists("mine")
			require.NoError(t, err)
			require.NoError(t, u.creates("8"))
			require.Equal(t, "2", ask(t, database, "select count(*)::text from messages"))
		})
	}
}

// give makes an epoch of the database the one that is wanted, as a node does
// that is the first to serve it.
func give(t *testing.T, database string, epoch freshet.Epoch) {
	t.Helper()
	testkit.Exec(t, database, `
insert into freshet.incarnation (epoch, system_identifier, timeline, postmaster_start, database)
select $1, 'x', 1, pg_postmaster_start_time(), oid from pg_database where datname = current_database()`, int64(epoch))
}

func ask(t *testing.T, database, sql string) (answer string) {
	t.Helper()
	require.NoError(t, testkit.Conn(t, database).QueryRow(testkit.Context(t), sql).Scan(&answer))
	return answer
}

// user calls a node, one thing at a time.
type user struct {
	ctx      context.Context
	messages messagesv1connect.MessageServiceClient
}

func (n *node) user(t *testing.T) *user {
	t.Helper()
	return &user{ctx: testkit.Context(t), messages: messagesv1connect.NewMessageServiceClient(n.http, n.url, connect.WithInterceptors(client.NewInterceptor()))}
}

// lists reads conversation 0 strongly, and wants these bodies in it.
func (u *user) lists(bodies ...string) (freshet.Revision, error) {
	ctx, cancel := context.WithTimeout(u.ctx, 10*time.Second)
	defer cancel()
	var stamp client.Stamp
	resp, err := u.messages.ListMessages(client.CaptureStamp(ctx, &stamp), connect.NewRequest(listOf("0")))
	if err != nil {
		return freshet.Revision{}, err
	}
	var got []string
	for _, m := range resp.Msg.GetMessages() {
		got = append(got, m.GetBody())
	}
	if !slices.Equal(got, bodies) {
		return stamp.Revision, fmt.Errorf("the list holds %q, and not %q", got, bodies)
	}
	return stamp.Revision, nil
}

func (u *user) creates(conversation string) error {
	ctx, cancel := context.WithTimeout(u.ctx, 10*time.Second)
	defer cancel()
	_, err := u.messages.CreateMessage(ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/" + conversation, Message: &messagesv1.Message{Author: "ann", Body: "hi"},
	}))
	return err
}

// requireUnanswered: neither a strong read, nor one at-least rev, nor a write
// succeeds; each is unavailable.
func (u *user) requireUnanswered(t *testing.T, rev freshet.Revision) {
	t.Helper()
	_, err := u.lists()
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "a strong read: %v", err)
	// Of another list, of which nothing is kept.
	resp, err := u.messages.ListMessages(client.AtLeast(u.ctx, rev), connect.NewRequest(listOf("1")))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "a read at-least %v: %v, %v", rev, resp, err)
	err = u.creates("8")
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "a write: %v", err)
}
