package testkit

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// PgBouncer is a real pooler in front of a database. It ends with the test.
type PgBouncer struct {
	t       testing.TB
	dir     string
	mode    string
	addr    string
	process *os.Process
}

// NewPgBouncer starts PgBouncer in a pool_mode: session, transaction or
// statement. Without the program the test fails where CI is set, and is reported
// as not run elsewhere.
func NewPgBouncer(t testing.TB, target, mode string) *PgBouncer {
	t.Helper()
	path, err := osexec.LookPath("pgbouncer")
	if err != nil {
		path, err = osexec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("NOT RUN: there is no pgbouncer; `make deps` installs it")
	}
	require.NoError(t, err, "`make deps` installs pgbouncer")

	dir, err := os.MkdirTemp("", "pgbouncer-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // it runs as another user
	p := &PgBouncer{t: t, dir: dir, mode: mode, addr: FreeAddr(t, "127.0.0.1")}
	p.configure(target)
	args := []string{p.file("ini")}
	if os.Getuid() == 0 { // it refuses to be root; postgres may enter the server's socket
		args = []string{"-u", "postgres", p.file("ini")}
	}
	command := osexec.Command(path, args...)
	require.NoError(t, command.Start())
	p.process = command.Process
	t.Cleanup(func() {
		_ = p.process.Kill()
		_ = command.Wait()
		if log, err := os.ReadFile(p.file("log")); err == nil && t.Failed() {
			t.Logf("PgBouncer's log:\n%s", log)
		}
	})
	p.await(func(ctx context.Context, conn *pgconn.PgConn) bool { return true })
	return p
}

func (p *PgBouncer) file(name string) string { return filepath.Join(p.dir, name) }

// configure points it at a database, which clients know as "db".
func (p *PgBouncer) configure(target string) {
	p.t.Helper()
	c, err := pgconn.ParseConfig(target)
	require.NoError(p.t, err)
	_, port, err := net.SplitHostPort(p.addr)
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(p.file("users"), fmt.Appendf(nil, "%q \"\"\n", c.User), 0o644)) //nolint:gosec // no secret
	require.NoError(p.t, os.WriteFile(p.file("ini"), fmt.Appendf(nil, `[databases]
db = host=%s port=%d dbname=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
admin_users = any
auth_file = %s
pool_mode = %s
default_pool_size = 4
logfile = %s
`, c.Host, c.Port, c.Database, c.User, port, p.file("users"), p.mode, p.file("log")), 0o644)) //nolint:gosec // no secret
}

// URL leads to the database, through the pooler.
func (p *PgBouncer) URL() string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: p.addr, Path: "/db"}
	return u.String() + "?sslmode=disable"
}

// Point leads the pooler's clients to another database, as a failover behind
// their back does: their connections stay. It returns once that holds.
func (p *PgBouncer) Point(target string) {
	p.t.Helper()
	c, err := pgconn.ParseConfig(target)
	require.NoError(p.t, err)
	p.configure(target)
	require.NoError(p.t, p.process.Signal(syscall.SIGHUP))
	p.await(func(ctx context.Context, conn *pgconn.PgConn) bool {
		results, err := conn.Exec(ctx, "select current_database()").ReadAll()
		return err == nil && string(results[0].Rows[0][0]) == c.Database
	})
}

// await connects through the pooler until that works and says yes.
func (p *PgBouncer) await(yes func(context.Context, *pgconn.PgConn) bool) {
	p.t.Helper()
	ask := func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgconn.Connect(ctx, p.URL())
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(ctx) }()
		return yes(ctx, conn)
	}
	if !eventually(ask) {
		log, _ := os.ReadFile(p.file("log"))
		require.FailNow(p.t, "pgbouncer doesn't answer as it should", "%s", strings.TrimSpace(string(log)))
	}
}

// eventually polls: nothing signals what another program has got to.
func eventually(yes func() bool) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if yes() {
			return true
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
	return false
}
