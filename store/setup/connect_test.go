package setup_test

import (
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// A wrong password is what the error says, and all that it says, where the server has no
// TLS and the URL leaves it open whether there is any.
func TestConnect_wrongPassword(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	raw := server.URL("postgres")
	testkit.Exec(t, raw, `create role app login password 'right'`)
	var hba string
	require.NoError(t, testkit.Conn(t, raw).QueryRow(testkit.Context(t), `show hba_file`).Scan(&hba))
	rules, err := os.ReadFile(hba)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(hba, append([]byte("local all app scram-sha-256\nhost all app all scram-sha-256\n"), rules...), 0o600))
	testkit.Exec(t, raw, `select pg_reload_conf()`)

	at, err := url.Parse(testkit.NewProxy(t, raw).URL())
	require.NoError(t, err)
	at.User = url.UserPassword("app", "wrong")
	prefer := testkit.WithParam(t, at.String(), "sslmode", "prefer")
	require.Eventually(t, func() bool { // once the rules are read
		conn, failed := setup.Connect(testkit.Context(t), prefer)
		if err = failed; err == nil {
			_ = conn.Close(testkit.Context(t))
		}
		return err != nil
	}, time.Minute, time.Millisecond)
	require.Regexp(t, "^connect to the database: failed to connect to `user=app database=postgres`: 127.0.0.1:[0-9]+ \\(127.0.0.1\\): "+
		"failed SASL auth: FATAL: password authentication failed for user \"app\" \\(SQLSTATE 28P01\\)$", err.Error())
	_, err = setup.Connect(testkit.Context(t), testkit.WithParam(t, at.String(), "sslmode", "require"))
	require.ErrorContains(t, err, "server refused TLS connection")
}
