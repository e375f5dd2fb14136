package systemtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// G5: 10,000 own writes, creates and deletes, each read back at-least its stamp
// in a list that others write to and that is shared and kept; while SQL writes
// too.
func TestOwn_tenThousandWritesAreReadBack(t *testing.T) {
	ctx := testkit.Context(t)
	database := testkit.Migrated(t)
	c := newClients(t, serve(t, database, "own", nil).url)
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		_, err := conn.Exec(ctx, `insert into messages (conversation, author, body) values ('8', 'sql', 'hi')`)
		return true, err
	})
	began := time.Now()
	const workers, writes = 16, 10_000 / slowdown
	var group errgroup.Group
	for i := range workers {
		group.Go(func() error {
			for range writes / 2 / workers {
				if err := createAndDelete(ctx, c, fmt.Sprint("c", i%4)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.NoError(t, w.stop())
	t.Logf("%d writes read back in %v, beside %d by SQL", writes, time.Since(began).Round(time.Millisecond), w.written.Load())
}

func createAndDelete(ctx context.Context, c *clients, conversation string) error {
	name, stamp, err := c.create(ctx, conversation, "hi")
	if err != nil {
		return err
	}
	if found, err := c.holds(ctx, conversation, name, stamp); err != nil || !found {
		return fmt.Errorf("%s, created at %v: found %v, %w", name, stamp.Revision, found, err)
	}
	_, err = c.messages.DeleteMessage(client.CaptureStamp(ctx, &stamp), connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: name}))
	if err != nil {
		return err
	}
	if found, err := c.holds(ctx, conversation, name, stamp); err != nil || found {
		return fmt.Errorf("%s, deleted at %v: found %v, %w", name, stamp.Revision, found, err)
	}
	return nil
}

// holds reports whether a list at-least the stamp holds a message.
func (c *clients) holds(ctx context.Context, conversation, name string, stamp client.Stamp) (bool, error) {
	resp, err := c.list(ctx, conversation, stamp.Revision)
	if err != nil {
		return false, err
	}
	for _, m := range resp.Msg.GetMessages() {
		if m.GetName() == name {
			return true, nil
		}
	}
	return false, nil
}
