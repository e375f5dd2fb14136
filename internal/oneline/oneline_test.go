package oneline_test

import (
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/oneline"
)

// pgx names an address once with TLS and once without, each on a line of its own.
func TestError_pgx(t *testing.T) {
	t.Parallel()
	_, err := pgx.Connect(t.Context(), "postgres://app@127.0.0.1:1,127.0.0.1:2/shop?sslmode=prefer")
	require.Contains(t, err.Error(), "\n", "else this package has nothing to do")
	one := oneline.Error(err)
	require.EqualError(t, one, "failed to connect to `user=app database=shop`: "+
		"127.0.0.1:1 (127.0.0.1): dial error: dial tcp 127.0.0.1:1: connect: connection refused; "+
		"127.0.0.1:2 (127.0.0.1): dial error: dial tcp 127.0.0.1:2: connect: connection refused")
	var connect *pgconn.ConnectError
	require.ErrorAs(t, one, &connect)
}

// A server without TLS is no reason where it was asked without, too.
func TestError_noTLS(t *testing.T) {
	t.Parallel()
	one := oneline.Error(errors.New("failed to connect to `user=app database=shop`:\n" +
		"\t10.0.0.1:5432 (db): tls error: server refused TLS connection\n" +
		"\t10.0.0.1:5432 (db): failed SASL auth: FATAL: password authentication failed\n" +
		"\t10.0.0.2:5432 (strict): tls error: server refused TLS connection"))
	require.EqualError(t, one, "failed to connect to `user=app database=shop`: "+
		"10.0.0.1:5432 (db): failed SASL auth: FATAL: password authentication failed; "+
		"10.0.0.2:5432 (strict): tls error: server refused TLS connection")
}

func TestError(t *testing.T) {
	t.Parallel()
	require.NoError(t, oneline.Error(nil))
	require.Equal(t, io.EOF, oneline.Error(io.EOF))
	one := oneline.Error(errors.Join(io.EOF, errors.New("hostname: no such host\n\tno such host\n"), io.EOF))
	require.EqualError(t, one, "EOF; hostname: no such host")
	require.ErrorIs(t, one, io.EOF)
}
