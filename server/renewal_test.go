package server_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
)

// A thousand renewals under writes: each write is told to each stream exactly once, so
// no notice is lost, and none makes anybody fetch again. (A stream that a slow machine
// doesn't renew in time is away for a moment; that is the exception, and costs no more.)
func TestRenewal_aThousandUnderWrites(t *testing.T) {
	const (
		life          = 3 * time.Second // of a token
		conversations = 10              // of which the last two are never written to
		quiet         = 2
		followers     = 40 // of each
		renewals      = 1000
		late          = renewals / 2 // under the race detector, on a machine that is busy
	)
	database := testkit.Migrated(t)
	b := embed(t, server.Config{DatabaseURL: database, Authenticate: byToken, Throttle: server.None}).live(t)
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	ctx, cancel := context.WithCancel(b.ctx)
	var running, writing sync.WaitGroup
	var renewed, away, tokens atomic.Int64
	enough, stop := make(chan struct{}), make(chan struct{})
	source := client.WithTokenSource(func(context.Context) (string, error) {
		return tokenOf(fmt.Sprint("ada", tokens.Add(1)), "x", time.Now().Add(life)), nil
	})
	errs := make(chan error, conversations*followers+conversations)
	heard := func(e client.Event, r *room, begun *sync.Once) error {
		switch e := e.(type) {
		case client.Invalidate:
			r.told.Add(1)
			r.ring()
		case client.Ready:
			begun.Do(r.ready.Done)
		case client.Renewed:
			if renewed.Add(1) == renewals {
				close(enough)
			}
		case client.Disconnected:
			// By the server's word, or cut where the machine is too slow for that too.
			if away.Add(1) > late {
				return fmt.Errorf("a stream was away: %w", e.Err)
			}
		case client.RenewalFailed:
			return fmt.Errorf("a renewal failed: %w", e.Err)
		case client.Reset:
			return fmt.Errorf("reset: %+v", e)
		}
		return nil
	}
	rooms := make([]*room, conversations)
	pace := time.NewTicker(life * 2 / 3 / (conversations * followers)) // so that they don't renew as one
	defer pace.Stop()
	for i := range rooms {
		r := &room{bell: make(chan struct{}, 1)}
		rooms[i] = r
		for j := range followers {
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(j%2 == 0)
			transport.Protocols.SetHTTP1(j%2 == 1)
			t.Cleanup(transport.CloseIdleConnections)
			c, err := client.New(b.url, client.WithHTTPClient(&http.Client{Transport: transport}), source)
			require.NoError(t, err)
			r.ready.Add(1)
			<-pace.C
			running.Go(func() {
				var begun sync.Once
				err := c.Stream(ctx, []string{fmt.Sprintf("conversations/%d/messages", i)}, func(e client.Event) error { return heard(e, r, &begun) })
				if ctx.Err() == nil {
					errs <- err
				}
			})
		}
	}
	// Queries, one of a conversation that is written to and one of a quiet one.
	reader, err := client.New(b.url, client.WithHTTPClient(b.http), source)
	require.NoError(t, err)
	api := messagesv1connect.NewMessageServiceClient(b.http, b.url, connect.WithInterceptors(reader.Interceptor()))
	var fetches [conversations]atomic.Int64
	queries := map[int]*client.Query[messagesv1.ListMessagesRequest, messagesv1.ListMessagesResponse]{}
	for _, i := range []int{0, conversations - 1} {
		q, err := client.NewQuery(reader, func(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
			fetches[i].Add(1)
			return api.ListMessages(ctx, req)
		}, &messagesv1.ListMessagesRequest{Parent: fmt.Sprintf("conversations/%d", i), PageSize: 1})
		require.NoError(t, err)
		queries[i] = q
		running.Go(func() { _ = q.Run(ctx) })
		for s := range q.Changes(ctx) {
			if s.Fresh {
				break
			}
		}
	}
	for _, r := range rooms {
		r.ready.Wait()
	}
	for i, r := range rooms[:conversations-quiet] {
		writing.Go(func() {
			pace := time.NewTicker(60 * time.Millisecond) // or nothing else would get to run
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				if err := r.write(ctx, pool, i, followers); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	select {
	case <-enough:
	case err := <-errs:
		cancel()
		running.Wait()
		require.NoError(t, err)
	case <-b.ctx.Done():
	}
	close(stop)
	writing.Wait()
	for s := range queries[0].Changes(ctx) { // the last one has come
		if s.Fresh && s.Value.GetMessages()[0].GetBody() == fmt.Sprint(rooms[0].writes.Load()) {
			break
		}
	}
	written := int64(0)
	for _, r := range rooms {
		require.Equal(t, followers*r.writes.Load(), r.told.Load(), "each write once to each")
		written += r.writes.Load()
	}
	require.EqualValues(t, 1, fetches[conversations-1].Load(), "nothing was written there")
	require.LessOrEqual(t, fetches[0].Load(), rooms[0].writes.Load()+1)
	require.Empty(t, errs)
	cancel()
	running.Wait()
	t.Logf("%d renewals (%d late), %d writes, each told to %d streams once", renewed.Load(), away.Load(), written, followers)
	require.Greater(t, written, int64(100))
}

// room is a conversation, and what its followers were told in all.
type room struct {
	writes, told atomic.Int64
	ready        sync.WaitGroup
	bell         chan struct{}
}

func (r *room) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// write writes once, and waits until everybody has been told as often as there were
// writes. So no notice hides that another one was lost.
func (r *room) write(ctx context.Context, pool *pgxpool.Pool, conversation int, followers int64) error {
	n := r.writes.Add(1)
	if _, err := pool.Exec(ctx, `insert into messages (conversation, author, body) values ($1, 'sql', $2)`, fmt.Sprint(conversation), fmt.Sprint(n)); err != nil {
		return err
	}
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	for r.told.Load() < n*followers {
		select {
		case <-r.bell:
		case <-patience.C:
			return fmt.Errorf("write %d of conversation %d: told %d times, of %d", n, conversation, r.told.Load()-(n-1)*followers, followers)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
