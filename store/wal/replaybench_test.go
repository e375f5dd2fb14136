package wal_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// replayed is how many transactions of one row the benchmark replays.
const replayed = 100_000

// BenchmarkFeed_replay is a restart on WAL that has piled up: 100,000
// transactions of one row, from START_REPLICATION until the hub serves. Postgres'
// decoding of them is part of the time.
//
//	go test ./store/wal -run '^$' -bench Feed_replay -benchtime 5x
func BenchmarkFeed_replay(b *testing.B) {
	url := testkit.Template(b, "wal", prepare)
	config := wal.Config{URL: url, Slot: "replay", Program: program(), WindowAge: time.Hour, WindowBytes: 1 << 40}
	// run captures into a hub of its own until it serves; the slot stays where it
	// was, since nothing of the window is confirmed.
	run := func() wal.Stats {
		h := hub.New(hub.Config{})
		config.Sink = h
		feed, err := wal.New(config)
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- feed.Run(ctx) }()
		for feed.Ready() != nil || h.Frontier().IsZero() {
			time.Sleep(time.Millisecond)
		}
		b.StopTimer()
		cancel()
		require.NoError(b, <-done)
		b.StartTimer()
		return feed.Stats()
	}
	run()
	testkit.Exec(b, url, `create procedure pile_up(n int) language plpgsql as $$ begin
		for i in 1..n loop
			insert into messages (conversation, author, body) values ('c' || i % 1000, 'sql', 'hi');
			commit;
		end loop;
	end $$`)
	testkit.Exec(b, testkit.WithParam(b, url, "synchronous_commit", "off"), `call pile_up($1)`, replayed)
	b.ReportAllocs()
	b.ResetTimer()
	var stats wal.Stats
	for range b.N {
		stats = run()
		require.GreaterOrEqual(b, stats.Commits, uint64(replayed))
	}
	b.ReportMetric(float64(b.N)*replayed/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(stats.GateQueries), "gate-queries/op")
}
