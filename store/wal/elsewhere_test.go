package wal_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// twin is a server behind a proxy, and a cold copy of it.
type twin struct {
	url, copied string // the database, directly
	way         *testkit.Proxy
	socket      string // the copy's
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	server, url := ownDatabase(t, map[string]string{"fsync": "off"})
	// So that the copy has a slot.
	first := start(t, url).live(t)
	first.stop()
	other := server.ColdCopy(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	w := &twin{url: url, copied: other.URL(config.Database), way: testkit.NewProxy(t, url)}
	to := hostOf(t, w.copied)
	w.socket = filepath.Join(to[0], ".s.PGSQL."+to[1])
	return w
}

// begin begins an epoch of the copy's own with this number: as a node does that reaches
// only the copy, in the second in which another one begins it on the original.
func (w *twin) begin(t *testing.T, epoch freshet.Epoch) {
	t.Helper()
	testkit.Exec(t, w.copied, `
update freshet.incarnation set epoch = $1, secret = null, postmaster_start = pg_postmaster_start_time()`, int64(epoch))
	testkit.Exec(t, w.copied, `update freshet.epoch set last = $1`, int64(epoch))
}

// window is where the copy's slot is, and what is recorded there as proven visible.
func (w *twin) window(t *testing.T) string {
	t.Helper()
	var found string
	require.NoError(t, testkit.Conn(t, w.copied).QueryRow(testkit.Context(t), `
select concat_ws(' ', (select confirmed_flush_lsn from pg_replication_slots where slot_name = $1), (select value from freshet.fingerprint where source = 'proven visible'))`,
		slotOf(t, w.url)).Scan(&found))
	return found
}

// end ends the connection that holds an advisory lock of the slot.
func (w *twin) end(t *testing.T) {
	t.Helper()
	var ended int
	require.NoError(t, testkit.Conn(t, w.url).QueryRow(testkit.Context(t), `
select count(*) filter (where pg_terminate_backend(pid)) from (
  select distinct pid from pg_locks where locktype = 'advisory' and classid::bigint = $1) holders`, wal.LockClass).Scan(&ended))
	require.Positive(t, ended)
}

// TestKeeper_F8_coldCopyTakesTheName: the name comes to lead to a cold copy that is in
// an epoch of the same number, while the session lives on: of its connections only the
// keeper's is made anew. It touches nothing there: neither the slot, behind which the
// copy's own nodes start, nor what is known to be visible in the copy's WAL. The session
// itself ends once it is sure, and the node begins an epoch above.
func TestKeeper_F8_coldCopyTakesTheName(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	var log testkit.Buffer
	feed := start(t, w.way.URL(), func(c *wal.Config) {
		c.WindowAge, c.Logger = 10*time.Millisecond, log.Logger()
	}).live(t)
	feed.awaitStats(t, "it keeps the window", func(s wal.Stats) bool { return s.Keeper && s.Moves > 0 })
	epoch := feed.Frontier().Epoch
	w.begin(t, epoch)
	// So that there is something to move the slot for, and to prove.
	testkit.Exec(t, w.copied, `insert into messages (conversation, author, body) select 'there', 'a', 'b' from generate_series(1, 100)`)
	before := w.window(t)

	w.way.Point(w.socket)
	w.end(t)
	feed.await(t, "the keeper has looked at the copy", func() bool {
		require.Equal(t, before, w.window(t), "another database's window, by the number of its epoch alone")
		return log.Contains("the connection leads to another server")
	})
	require.Equal(t, epoch, feed.Frontier().Epoch)
	feed.await(t, "the session ends, and the copy is served in an epoch above", func() bool {
		return feed.Frontier().Epoch > epoch && feed.Ready() == nil
	})
	testkit.Exec(t, w.copied, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/after/messages")
}

// TestSeat_F8_coldCopyTakesTheName: the seat is not held by a lock in another database.
func TestSeat_F8_coldCopyTakesTheName(t *testing.T) {
	t.Parallel()
	w := newTwin(t)
	feed := follow(t, w.way.URL(), func(c *wal.Config) { c.Slot = slotOf(t, w.url) })
	seat := feed.NewSeat(func() {})
	seat.Want(true)
	feed.during(t, seat.Run)
	require.Eventually(t, seat.Held, testTimeout, testTick)
	epoch, _ := feed.History()
	w.begin(t, epoch)
	w.way.Point(w.socket)
	w.end(t)
	require.Eventually(t, func() bool { return !seat.Held() }, testTimeout, time.Millisecond)
	require.Never(t, func() bool {
		now, _ := feed.History()
		return now == epoch && seat.Held()
	}, 3*seatInterval, testTick, "in epoch %d", epoch)
}
