//go:build !race

package contract

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The projection runs for every row of every commit: a topic costs its
// string, and a fixed one nothing. (The race detector allocates for itself.)
func TestRows_allocations(t *testing.T) {
	s := messages(t).Source("public", "messages")
	rows, err := s.Bind([]uint32{oidText, oidUUID})
	require.NoError(t, err)
	values := [][]byte{[]byte("7"), []byte("01928c7e-0000-7000-8000-000000000001")}
	column := func(i int) ([]byte, bool) { return values[i], true }
	dst := make([]string, 0, 16)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { rows.AppendTopics(dst, column) }), 2.0)
}

// Each call has its topics looked at.
func TestSpelling_allocations(t *testing.T) {
	p, s := spellingOfTasks(t)
	m, topics := p.Method("/test.v1.S/Name"), []string{"projects/7/tasks/" + lower, "due/2026-01-05", "both/7", "nobody/knows"}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if s.CheckRequest(m, topics) != nil {
			t.Fail()
		}
	}))
}
