package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The processes that a test starts are this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "read") {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every server that is a Go module tells every connection, and every reader
// understands it.
func TestPeers_tellEveryone(t *testing.T) {
	for _, peer := range peers() {
		if peer.name == "nchan" {
			continue // a server of Debian's, which only the benchmark asks for
		}
		t.Run(peer.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p, err := startPair(ctx, peer.name, 0)
			require.NoError(t, err)
			defer func() { require.NoError(t, p.stop()) }()
			p.settle = 30 * time.Second
			const connections = 20
			require.NoError(t, p.connect(connections))
			for range 3 {
				_, got, told, err := p.tell(1, 1, connections)
				require.NoError(t, err)
				require.Equal(t, uint64(connections), got.Notices)
				require.Equal(t, told.Position, got.Position)
			}
			memory, err := p.memory()
			require.NoError(t, err)
			require.Positive(t, memory)
		})
	}
}

func TestReport(t *testing.T) {
	r := &report{Options: runOptions{Peers: []string{"floor", "freshet"}}, Rounds: map[string][]*measured{
		"floor":   {{CPUMicros: 3}, {CPUMicros: 5}, {CPUMicros: 4}},
		"freshet": {{CPUMicros: 8, BytesIdle: 2048}, {CPUMicros: 6, BytesIdle: 1024}},
	}}
	require.Contains(t, r.table(), "| floor | 4.00 (0.57 ×) |")
	require.Contains(t, r.table(), "| freshet | 7.00 (1.00 ×) |")
	require.Contains(t, r.benchstat(), "BenchmarkFanout/server=floor 1 5 cpu-µs/notice")
	require.NotContains(t, r.readme(), "%!")
	require.Contains(t, r.plot(), `class="bar ours"`)
}
