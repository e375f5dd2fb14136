package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store"
)

// relay forwards to a database and counts how often the client spoke after the
// server had.
type relay struct {
	mu    sync.Mutex
	asked int
	turn  bool // the server spoke last
}

func newRelay(t *testing.T, target string) (string, *relay) {
	t.Helper()
	u, err := url.Parse(testkit.NewProxy(t, target).URL())
	require.NoError(t, err)
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	r := new(relay)
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			all.Go(func() { r.pass(conn, client, true) })
			all.Go(func() { r.pass(client, conn, false) })
		}
	})
	u.Host = listener.Addr().String()
	return u.String(), r
}

func (r *relay) pass(to, from net.Conn, asks bool) {
	defer func() { _ = to.Close() }()
	_, _ = io.Copy(writerFunc(func(p []byte) (int, error) {
		r.mu.Lock()
		if asks && r.turn {
			r.asked++
		}
		r.turn = !asks
		r.mu.Unlock()
		return to.Write(p)
	}), from)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// trips counts the round trips of one call.
func (r *relay) trips(t *testing.T, run func() error) int {
	t.Helper()
	r.mu.Lock()
	r.asked = 0
	r.mu.Unlock()
	require.NoError(t, run())
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// A mutation of one statement takes two round trips, COMMIT included, and so does
// one of a batch; each further statement takes one.
func TestInTx_roundTrips(t *testing.T) {
	t.Parallel()
	ctx := testkit.Context(t)
	url, relay := newRelay(t, migrated(t))
	d := open(t, store.Config{URL: url, MaxConns: 1})
	for name, c := range map[string]struct {
		want int
		fn   func(ctx context.Context, tx pgx.Tx) error
	}{
		"one statement": {2, create},
		"by text alone": {2, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into messages (conversation, author, body) values ('7', 'ann', 'b')")
			return err
		}},
		"a batch": {2, func(ctx context.Context, tx pgx.Tx) error {
			b := new(pgx.Batch)
			for _, body := range []string{"a", "b", "c"} {
				b.Queue(insertSQL, body)
			}
			return tx.SendBatch(ctx, b).Close()
		}},
		"two statements": {3, func(ctx context.Context, tx pgx.Tx) error {
			return errors.Join(create(ctx, tx), list(ctx, tx))
		}},
		"a savepoint": {4, func(ctx context.Context, tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return create(ctx, tx) })
		}},
	} {
		run := func() error { return d.InTx(ctx, c.fn) }
		require.NoError(t, run(), name) // which prepares
		require.Equal(t, c.want, relay.trips(t, run), name)
	}
	run := func() error { return d.Read(ctx, list) }
	require.NoError(t, run())
	require.Equal(t, 1, relay.trips(t, run), "Read")
}
