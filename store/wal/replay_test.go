package wal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// slack is what the window may be beyond its age on a busy machine: two marks
// are up to two seconds apart, and the feed confirms once a second.
const slack = 5 * time.Second

// A database that nobody writes to is confirmed whole once the window has
// passed, so that it keeps no WAL.
func TestFeed_windowOfAnIdleDatabase(t *testing.T) {
	const age = 1500 * time.Millisecond
	url := database(t)
	feed := start(t, url, func(c *wal.Config) { c.WindowAge = age }).live(t)
	here := feed.caughtUp(t)
	feed.awaitStats(t, "all is confirmed", func(s wal.Stats) bool {
		require.LessOrEqual(t, s.Confirmed, s.Applied)
		require.Less(t, s.WindowAge, age+slack)
		return s.Confirmed >= here.Position
	})
	conn := testkit.Conn(t, url)
	feed.await(t, "the slot knows", func() bool {
		var slot pglogrepl.LSN
		require.NoError(t, conn.QueryRow(testkit.Context(t),
			`select confirmed_flush_lsn from pg_replication_slots where slot_name = $1`, slotOf(t, url)).Scan(&slot))
		return uint64(slot) >= here.Position
	})
}

// A busy one keeps the window's bytes, and what comes within the time of two
// marks.
func TestFeed_windowOfABusyDatabase(t *testing.T) {
	const bound = 256 << 10
	url := database(t)
	feed := start(t, url, func(c *wal.Config) { c.WindowAge, c.WindowBytes = time.Hour, bound }).live(t)
	began := feed.Stats().Applied
	conn := testkit.Conn(t, url)
	body := strings.Repeat("x", 8<<10)

	type sample struct {
		at      time.Time
		applied uint64
	}
	var samples []sample
	oldest := 0 // of the samples that are not older than slack
	for {
		_, err := conn.Exec(testkit.Context(t), `insert into messages (conversation, author, body)
			select '7', 'ada', $1 || clock_timestamp() from generate_series(1, 2)`, body)
		require.NoError(t, err)
		feed.caughtUp(t)
		s, now := feed.Stats(), time.Now()
		samples = append(samples, sample{now, s.Applied})
		for now.Sub(samples[oldest].at) > slack {
			oldest++
		}
		require.LessOrEqual(t, s.Confirmed, s.Applied)
		require.Less(t, s.WindowBytes, bound+s.Applied-samples[oldest].applied, "more than the bound and what came in %v", slack)
		if now.Sub(samples[0].at) > slack && s.Confirmed > began+2*bound {
			require.NotZero(t, s.WindowBytes)
			require.NotZero(t, s.WindowAge)
			return
		}
	}
}

// A restart on WAL that has piled up takes few snapshots: what one has shown
// needs no other.
func TestFeed_replayTakesFewSnapshots(t *testing.T) {
	const commits = 3000
	url := database(t)
	first := start(t, url).live(t)
	first.stop()
	conn := testkit.Conn(t, testkit.WithParam(t, url, "synchronous_commit", "off"))
	for i := range commits {
		_, err := conn.Exec(testkit.Context(t), insertMessage, "7", fmt.Sprint(i))
		require.NoError(t, err)
	}
	began := time.Now()
	again := start(t, url)
	again.await(t, "the feed has caught up", func() bool { return again.Ready() == nil })
	s := again.Stats()
	require.GreaterOrEqual(t, s.Commits, uint64(commits))
	// One a second, and each nudge is a commit that none has shown.
	require.LessOrEqual(t, s.GateQueries, 10+s.Nudges+uint64(time.Since(began).Seconds()))
	t.Logf("%d commits, %d snapshots, %d nudges", s.Commits, s.GateQueries, s.Nudges)
}
