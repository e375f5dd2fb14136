package wal

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// Above TLS each read brings one message, since a walsender makes a record of each. A
// stream of the busiest kind isn't held up by waits before them.
func TestLinger_aboveTLS(t *testing.T) {
	without := receiveOverTLS(t, new(linger))
	require.Less(t, receiveOverTLS(t, &linger{max: 5 * time.Millisecond}), 3*without+time.Second)
}

// receiveOverTLS returns how long 50,000 messages take.
func receiveOverTLS(t *testing.T, l *linger) time.Duration {
	const messages = 50_000
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // it has taken the one connection
	files := testkit.NewCertificate(t)
	certificate, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	require.NoError(t, err)
	server := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	sent := make(chan error, 1)
	go func() { sent <- sendOverTLS(listener, server, messages) }()

	config := &pgconn.Config{DialFunc: new(net.Dialer).DialContext}
	l.gather(config)
	conn, err := config.DialFunc(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	over := tls.Client(conn, &tls.Config{RootCAs: files.Pool(t), ServerName: "localhost", MinVersion: tls.VersionTLS12})
	defer over.Close() //nolint:errcheck // it is read to its end
	require.NoError(t, over.SetDeadline(time.Now().Add(time.Minute)))
	frontend := newFrontend(l)(over, io.Discard)
	began := time.Now()
	for range messages {
		msg, err := frontend.Receive()
		require.NoError(t, err)
		require.IsType(t, &pgproto3.CopyData{}, msg)
	}
	took := time.Since(began)
	require.NoError(t, <-sent)
	return took
}

// sendOverTLS sends messages to whoever comes first, each by itself.
func sendOverTLS(listener net.Listener, config *tls.Config, messages int) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	over := tls.Server(conn, config)
	defer over.Close() //nolint:errcheck // the reader has all, or fails
	message := frameOf('d', make([]byte, 100))
	for range messages {
		if _, err := over.Write(message); err != nil {
			return err
		}
	}
	return nil
}

// What comes sooner than it is read waits in a reader of ours, and less is asked of the
// socket.
func TestLinger_gathers(t *testing.T) {
	here, there := net.Pipe()
	config := &pgconn.Config{DialFunc: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
	new(linger).gather(config)
	conn, err := config.DialFunc(t.Context(), "tcp", "")
	require.NoError(t, err)
	go func() {
		_, _ = there.Write([]byte("many at once"))
		_ = there.Close()
	}()
	first := make([]byte, 4)
	_, err = io.ReadFull(conn, first)
	require.NoError(t, err)
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "many at once", string(first)+string(rest))
	require.NoError(t, conn.Close())
	require.Same(t, here, conn.(interface{ NetConn() net.Conn }).NetConn())
}
