package testkit

import (
	"os"
	osexec "os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// ColdCopy stops this server in order, copies its data directory, and starts both again: what a
// copy of the files, a restored image of a machine or a clone of its volume is. The copy says that
// it is the same system, has the same slots, and has the UNLOGGED tables too. It is removed with
// the test.
func (p *Server) ColdCopy(t testing.TB) *Server {
	t.Helper()
	second := NewServer(t, map[string]string{"fsync": "off"})
	from, to := p.Cluster(t), second.Cluster(t)
	for _, c := range []Cluster{from, to} {
		c.Ctl(t, "stop", "--mode=fast", "--wait")
	}
	require.NoError(t, os.RemoveAll(to.Dir))
	out, err := osexec.CommandContext(Context(t), "cp", "-a", from.Dir, to.Dir).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	second.Restart(t)
	p.Restart(t)
	return second
}
