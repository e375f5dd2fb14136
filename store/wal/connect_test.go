package wal

import (
	"context"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// pipe is a socket of a dialer, and the other end of it.
func pipe(t *testing.T, silence time.Duration) (d *dialer, ours net.Conn, other net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	d = newDialer()
	t.Cleanup(d.close)
	t.Cleanup(func() { _ = there.Close() })
	config := &pgconn.Config{DialFunc: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
	d.through(config, silence)
	ours, err := config.DialFunc(t.Context(), "tcp", "")
	require.NoError(t, err)
	return d, ours, there
}

// TestSocket_F47_silenceEndsEachRead: every read and every write ends, also
// after its user has set a deadline and taken it back; as long as something
// comes, none does.
func TestSocket_F47_silenceEndsEachRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn, other := pipe(t, 5*time.Second)
		go func() {
			for range 4 {
				time.Sleep(4 * time.Second)
				_, _ = other.Write([]byte("x"))
			}
		}()
		buf := make([]byte, 1)
		for range 4 {
			_, err := conn.Read(buf)
			require.NoError(t, err)
		}
		for _, use := range []func([]byte) (int, error){conn.Read, conn.Write} {
			began := time.Now()
			_, err := use(buf)
			require.ErrorIs(t, err, errSilent)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "pgx would think that it may go on")
			require.Equal(t, 5*time.Second, time.Since(began))
		}
		// A user's deadline, set while the read waits.
		began := time.Now()
		time.AfterFunc(time.Second, func() { _ = conn.SetDeadline(time.Now()) })
		_, err := conn.Read(buf)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NotErrorIs(t, err, errSilent)
		require.Equal(t, time.Second, time.Since(began))
		// One that is taken back while it waits.
		require.NoError(t, conn.SetDeadline(time.Time{}))
		began = time.Now()
		time.AfterFunc(time.Second, func() { _ = conn.SetDeadline(time.Time{}) })
		_, err = conn.Read(buf)
		require.ErrorIs(t, err, errSilent)
		require.Equal(t, 5*time.Second, time.Since(began))
		// None.
		socketOf(conn).allow(0)
		time.AfterFunc(time.Hour, func() { _, _ = other.Write([]byte("x")) })
		_, err = conn.Read(buf)
		require.NoError(t, err)
	})
}

// TestDialer_close: nothing that was dialled outlives the session, and nothing
// is dialled after it.
func TestDialer_close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, conn, _ := pipe(t, time.Second)
		read := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		d.close()
		require.Error(t, <-read)

		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		config := &pgconn.Config{DialFunc: dial}
		d.through(config, time.Second)
		_, err := config.DialFunc(context.Background(), "tcp", "")
		require.ErrorIs(t, err, context.Canceled)
	})
}
