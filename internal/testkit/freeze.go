package testkit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Freeze stops each process of the server, as SIGSTOP does: the kernel goes on to take its
// connections, and nobody answers. wake lets them go on, as the test's end does.
func (p *Server) Freeze(t testing.TB) (wake func()) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(p.Cluster(t).Dir, "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(file), "\n")
	postmaster, err := strconv.Atoi(first)
	require.NoError(t, err)
	conn := Conn(t, p.URL("postgres"))
	require.NoError(t, syscall.Kill(postmaster, syscall.SIGSTOP)) // so that it starts no more
	pids := []int{postmaster}
	var others []int
	err = conn.QueryRow(Context(t), `select array(select pid from pg_stat_activity)`).Scan(&others)
	pids = append(pids, others...)
	signal := func(s syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, s) // gone by itself: as well
		}
	}
	wake = sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(wake)
	require.NoError(t, err)
	signal(syscall.SIGSTOP)
	return wake
}
