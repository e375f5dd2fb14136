package depths

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

const (
	writers       = 4
	writes        = 24 // of each, and half as many deletes
	readers       = 3
	conversations = 2 // shared by writers, so that answers are shared and kept
	sqlWrites     = 20
)

// crowd is everybody who uses a node in a stress, and what they saw.
type crowd struct {
	*node
	*history
	ctx      context.Context
	messages messagesv1connect.MessageServiceClient

	mu   sync.Mutex
	seen freshet.Revision // the highest stamp that a writer got
}

// stress has writers read back what they wrote at-least its stamp, readers that
// ask at-least what others were told, strong readers, and clients that follow
// the conversations, one of which SQL writes to; then it judges what they saw.
func stress(t *testing.T, n *node) *history {
	t.Helper()
	began := time.Now()
	c := &crowd{
		node: n, history: newHistory(), ctx: testkit.Context(t),
		messages: messagesv1connect.NewMessageServiceClient(n.http, n.url, connect.WithInterceptors(client.NewInterceptor())),
	}
	bySQL := c.follow(t, "sql")
	followed := make([]*follower, conversations)
	for i := range followed {
		followed[i] = c.follow(t, strconv.Itoa(i))
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var reading, writing errgroup.Group
	for range readers {
		reading.Go(func() error { return c.read(ctx) })
	}
	for i := range writers {
		writing.Go(func() error { return c.write(strconv.Itoa(i % conversations)) })
	}
	writing.Go(func() error { return c.writeBySQL(bySQL) })
	require.NoError(t, writing.Wait())
	cancel()
	require.NoError(t, reading.Wait())
	for i, f := range followed {
		require.NoError(t, c.converges(f, strconv.Itoa(i)))
		f.stop()
	}
	bySQL.stop()

	if n.discarded != nil {
		for _, m := range n.discarded() {
			c.never(m.ID, m.Conversation)
		}
	}
	wrong := c.judge()
	t.Logf("%d rows, %d answers, %v", len(c.rows), len(c.answers), time.Since(began).Round(time.Millisecond))
	require.Empty(t, wrong[:min(len(wrong), 5)], "%d faults in %d answers", len(wrong), len(c.answers))
	return c.history
}

// write creates messages, deletes every other one, and reads back each time.
func (c *crowd) write(conversation string) error {
	for i := range writes {
		var stamp client.Stamp
		created, err := c.messages.CreateMessage(client.CaptureStamp(c.ctx, &stamp), connect.NewRequest(&messagesv1.CreateMessageRequest{
			Parent: "conversations/" + conversation, Message: &messagesv1.Message{Author: "ann", Body: strconv.Itoa(i)},
		}))
		if err != nil {
			return err
		}
		m, err := parse(created.Msg.GetMessage().GetName())
		if err != nil {
			return err
		}
		c.created(m.ID, conversation, stamp.Revision)
		if err := c.readBack(conversation, stamp); err != nil {
			return fmt.Errorf("created: %w", err)
		}
		if i%2 == 0 {
			continue
		}
		c.deleting(m.ID, conversation)
		_, err = c.messages.DeleteMessage(client.CaptureStamp(c.ctx, &stamp), connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: created.Msg.GetMessage().GetName()}))
		if err != nil {
			return err
		}
		c.deleted(m.ID, conversation, stamp.Revision)
		if err := c.readBack(conversation, stamp); err != nil {
			return fmt.Errorf("deleted: %w", err)
		}
	}
	return nil
}

// readBack lists at-least the stamp of a write.
func (c *crowd) readBack(conversation string, stamp client.Stamp) error {
	if stamp.Revision.IsZero() {
		return fmt.Errorf("a write in conversation %s has no stamp", conversation)
	}
	c.mu.Lock()
	c.seen = c.seen.Max(stamp.Revision)
	c.mu.Unlock()
	return c.list(c.ctx, "writer", conversation, stamp.Revision)
}

// read lists, until ctx ends, at-least what a writer was told, and strongly.
func (c *crowd) read(ctx context.Context) error {
	for i := 0; ; i++ {
		c.mu.Lock()
		seen := c.seen
		c.mu.Unlock()
		if i%4 == 0 {
			seen = freshet.Revision{}
		}
		if err := c.list(ctx, "reader", strconv.Itoa(i%conversations), seen); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// list lists at-least a revision, strongly if that is zero.
func (c *crowd) list(ctx context.Context, who, conversation string, atLeast freshet.Revision) error {
	a := answer{conversation: conversation, atLeast: atLeast, who: who}
	if atLeast.IsZero() {
		a.asked = c.asking()
	}
	var stamp client.Stamp
	resp, err := c.messages.ListMessages(client.CaptureStamp(client.AtLeast(ctx, atLeast), &stamp), connect.NewRequest(listOf(conversation)))
	if err != nil {
		return fmt.Errorf("list at-least %v: %w", atLeast, err)
	}
	a.stamp, a.ids = stamp.Revision, idsOf(resp.Msg)
	c.answered(a)
	return nil
}

// follower is a client that keeps a list fresh.
type follower struct {
	*client.Query[messagesv1.ListMessagesRequest, messagesv1.ListMessagesResponse]
	stop func() // may be repeated
}

// follow starts a follower, and records what it holds until it stops.
func (c *crowd) follow(t *testing.T, conversation string) *follower {
	t.Helper()
	transport := new(http.Transport)
	streams, err := client.New(c.url, client.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	query, err := client.NewQuery(streams, c.messages.ListMessages, listOf(conversation))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(c.ctx)
	var running errgroup.Group
	running.Go(func() error { return query.Run(ctx) })
	running.Go(func() error {
		for s := range query.Changes(ctx) {
			if s.Value != nil && !s.Revision.IsZero() {
				c.answered(answer{conversation: conversation, stamp: s.Revision, ids: idsOf(s.Value), who: "follower"})
			}
		}
		return nil
	})
	f := &follower{query, sync.OnceFunc(func() {
		cancel()
		require.ErrorIs(t, running.Wait(), context.Canceled)
		transport.CloseIdleConnections()
	})}
	t.Cleanup(f.stop)
	return f
}

// writeBySQL writes past the node; each write is told, and in what the client
// then fetches.
func (c *crowd) writeBySQL(f *follower) error {
	conn, err := pgx.Connect(c.ctx, c.database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(c.ctx)) }()
	for i := range sqlWrites {
		id := uuid.NewString()
		if _, err := conn.Exec(c.ctx, insertSQL, id, "sql", "sql", "hi"); err != nil {
			return err
		}
		err := c.await(f, func(ids []string) bool { return slices.Contains(ids, id) })
		if err != nil {
			return fmt.Errorf("write %d by SQL isn't told, or not refetched: %w", i, err)
		}
	}
	return nil
}

// converges returns once what a client holds is what Postgres holds.
func (c *crowd) converges(f *follower, conversation string) error {
	conn, err := pgx.Connect(c.ctx, c.database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(c.ctx)) }()
	rows, err := conn.Query(c.ctx, "select id::text from messages where conversation = $1", conversation)
	if err != nil {
		return err
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	slices.Sort(want)
	if err := c.await(f, func(ids []string) bool { return slices.Equal(ids, want) }); err != nil {
		return fmt.Errorf("a client that follows conversation %s doesn't come to hold what Postgres holds: %w", conversation, err)
	}
	return nil
}

// await returns once a client holds what is asked for, or after 20 seconds.
func (c *crowd) await(f *follower, held func(ids []string) bool) error {
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	for s := range f.Changes(ctx) {
		if s.Value != nil && held(idsOf(s.Value)) {
			return nil
		}
	}
	return ctx.Err()
}

func listOf(conversation string) *messagesv1.ListMessagesRequest {
	return &messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation}
}

// idsOf returns the ids of a list, sorted.
func idsOf(list *messagesv1.ListMessagesResponse) []string {
	ids := make([]string, 0, len(list.GetMessages()))
	for _, m := range list.GetMessages() {
		ids = append(ids, m.GetName()[strings.LastIndex(m.GetName(), "/")+1:])
	}
	slices.Sort(ids)
	return ids
}
