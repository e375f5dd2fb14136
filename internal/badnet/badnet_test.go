package badnet_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet/internal/badnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every connection with what it says.
func echo(t *testing.T, greeting string) (addr string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, greeting) // or it was cut
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func TestProxy(t *testing.T) {
	proxy, err := badnet.New(echo(t, "1"))
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	dial := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proxy.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		return conn
	}
	reads := func(conn net.Conn, want string) {
		got := make([]byte, len(want))
		_, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	ends := func(conn net.Conn) {
		_, err := io.Copy(io.Discard, conn)
		if err != nil {
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		}
	}
	conn := dial()
	reads(conn, "1")

	proxy.Pause()
	_, err = io.WriteString(conn, "held")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	var late net.Error
	require.ErrorAs(t, err, &late)
	require.True(t, late.Timeout(), "nothing passes")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	proxy.Resume()
	reads(conn, "held")

	proxy.Silence()
	_, err = io.WriteString(conn, "lost")
	require.NoError(t, err)
	other := dial()
	reads(other, "1")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorAs(t, err, &late)
	require.True(t, late.Timeout(), "nothing passes, while others go on")
	conn = other

	proxy.Delay(20 * time.Millisecond)
	began := time.Now()
	_, err = io.WriteString(conn, "late")
	require.NoError(t, err)
	reads(conn, "late")
	require.GreaterOrEqual(t, time.Since(began), 40*time.Millisecond, "there and back")

	proxy.Refuse()
	ends(conn)
	ends(dial())
	proxy.Resume()
	proxy.Point(echo(t, "2"))
	conn = dial()
	reads(conn, "2")
	proxy.Cut()
	ends(conn)
}
