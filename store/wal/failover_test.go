package wal_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/wal"
)

// TestFailover_promotedStandby: the primary dies and its standby is promoted.
// The new primary begins a higher epoch: what the old one committed last may be
// gone, and positions may be used again.
func TestFailover_promotedStandby(t *testing.T) {
	t.Parallel()
	server, primary := ownDatabase(t, nil)
	standby := server.Standby(t)
	both := withHost(t, primary, standby)
	feed := start(t, both).live(t)
	before := feed.caughtUp(t)
	testkit.Exec(t, primary, `insert into messages (conversation, author, body) values ('kept', 'a', 'b')`)
	replicated := standby.URL(t, primary)
	require.Eventually(t, func() bool { return count(t, replicated, "kept") == 1 }, testTimeout, testTick)

	server.Kill()
	standby.Promote(t)
	feed.awaitWithin(t, time.Minute, "the promoted standby is served, in a new epoch", func() bool {
		return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil
	})
	testkit.Exec(t, replicated, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/after/messages")
	server.Restart(t) // so that the test's own database can be dropped
}

// hosts is a URL that leads to any of several servers, each given as host and port.
func hosts(t *testing.T, raw string, all ...[2]string) string {
	t.Helper()
	names, ports := make([]string, len(all)), make([]string, len(all))
	for i, at := range all {
		names[i], ports[i] = at[0], at[1]
	}
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.Host = ""
	q := u.Query()
	q.Set("host", strings.Join(names, ","))
	q.Set("port", strings.Join(ports, ","))
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	return u.String()
}

// hostOf is where a URL of one host leads.
func hostOf(t *testing.T, raw string) [2]string {
	t.Helper()
	config, err := pgx.ParseConfig(raw)
	require.NoError(t, err)
	return [2]string{config.Host, strconv.Itoa(int(config.Port))}
}

// withHost adds a second server to a URL, so that whichever is the primary is
// chosen.
func withHost(t *testing.T, raw string, other *testkit.Standby) string {
	t.Helper()
	return hosts(t, raw, hostOf(t, raw), [2]string{other.Host(), other.Port()})
}

// pair is a primary behind a proxy, and its standby.
type pair struct {
	server   *testkit.Server
	primary  string // directly
	way      *testkit.Proxy
	standby  *testkit.Standby
	promoted string // what the standby will be
	both     string // the proxy first, then the standby
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	p.server, p.primary = ownDatabase(t, nil)
	p.standby = p.server.Standby(t)
	p.promoted = p.standby.URL(t, p.primary)
	p.way = testkit.NewProxy(t, p.primary)
	p.both = hosts(t, p.primary, hostOf(t, p.way.URL()), [2]string{p.standby.Host(), p.standby.Port()})
	return p
}

// promote waits until the standby has all that the primary has, and makes a primary
// of it.
func (p *pair) promote(t *testing.T) {
	t.Helper()
	testkit.Exec(t, p.primary, `insert into messages (conversation, author, body) values ('kept', 'a', 'b')`)
	require.Eventually(t, func() bool { return count(t, p.promoted, "kept") == 1 }, testTimeout, testTick)
	p.standby.Promote(t)
}

// followed waits until the feed follows the promoted standby, in an epoch above.
func (p *pair) followed(t *testing.T, feed *running, above freshet.Epoch, what string) freshet.Epoch {
	t.Helper()
	feed.awaitWithin(t, 20*time.Second, what, func() bool { return feed.Frontier().Epoch > above && feed.Ready() == nil })
	feed.forget()
	testkit.Exec(t, p.promoted, `insert into messages (conversation, author, body) values ('after', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/after/messages")
	return feed.Frontier().Epoch
}

// TestFailover_firstHostIsSilent: the primary's machine is gone without a word, so
// that whoever connects to it waits for an answer that never comes. It is the first of
// the URL's hosts.
func TestFailover_firstHostIsSilent(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	feed := start(t, p.both).live(t)
	before := feed.Frontier().Epoch
	p.way.Pause()
	p.promote(t)
	p.followed(t, feed, before, "the promoted standby is served though the first host doesn't answer")
}

// TestFailover_oldPrimaryComesBack: the old primary is started again, as a primary
// that knows of no other, and is the first of the URL's hosts. Nobody goes back to it.
func TestFailover_oldPrimaryComesBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	feed := start(t, p.both).live(t)
	before := feed.Frontier().Epoch
	p.promote(t)
	p.server.Kill()
	epoch := p.followed(t, feed, before, "the promoted standby is served")

	p.server.Restart(t)
	sessions := feed.Stats().Sessions
	testkit.Exec(t, p.promoted, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'freshet'`)
	feed.await(t, "another session", func() bool { return feed.Stats().Sessions > sessions && feed.Ready() == nil })
	require.Equal(t, epoch, feed.Frontier().Epoch, "it is the promoted standby's")
	testkit.Exec(t, p.promoted, `insert into messages (conversation, author, body) values ('later', 'a', 'b')`)
	feed.awaitTopic(t, "conversations/later/messages")
}

// TestFailover_oldPrimaryStaysUp: nobody has stopped the old primary, and nothing cuts
// the connections to it.
func TestFailover_oldPrimaryStaysUp(t *testing.T) {
	t.Parallel()
	for name, single := range map[string]bool{"several hosts": false, "a name that moves": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			where := p.both
			if single {
				where = p.way.URL()
			}
			feed := start(t, where).live(t)
			before := feed.Frontier().Epoch
			p.promote(t)
			if single {
				p.way.Point(p.standby.Socket())
			}
			p.followed(t, feed, before, "the promoted standby is served")
		})
	}
}

// TestFailover_oldPrimaryHangs: the old primary's connections are open, and bring nothing.
// The session leaves it because another one was promoted, which it asks for soon, also
// where a look before has led to the one that hangs; and not because it has been silent
// for long.
func TestFailover_oldPrimaryHangs(t *testing.T) {
	t.Parallel()
	for name, misled := range map[string]bool{"the next look finds the other": false, "the next look hangs too": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			// Where connections lead: to one host, so that the finder has no part in it.
			old, err := pgx.ParseConfig(p.way.URL())
			require.NoError(t, err)
			promoted, err := pgx.ParseConfig(p.promoted)
			require.NoError(t, err)
			var paused, asked atomic.Bool
			var log testkit.Buffer
			feed := start(t, "", func(c *wal.Config) {
				c.Slot = slotOf(t, p.primary)
				c.WatchInterval = time.Hour
				c.Logger = log.Logger()
				c.Connect = func(context.Context) (*pgx.ConnConfig, error) {
					if !paused.Load() || misled && !asked.Swap(true) {
						return old.Copy(), nil
					}
					return promoted.Copy(), nil
				}
			}).live(t)
			before := feed.Frontier().Epoch
			p.promote(t)
			feed.caughtUp(t)
			paused.Store(true)
			p.way.Pause()
			feed.await(t, "the session ends", func() bool { return log.Contains("capture interrupted") })
			require.Contains(t, log.String(), "was left behind by a failover")
			p.followed(t, feed, before, "the promoted standby is served")
		})
	}
}

// TestFailover_F8_restoredCopy: the data directory is replaced by an older
// copy, so that WAL positions go back. Nothing else than the postmaster's start
// tells (a cold copy has the UNLOGGED row too): a new, higher epoch.
func TestFailover_F8_restoredCopy(t *testing.T) {
	t.Parallel()
	server, url := ownDatabase(t, nil)
	feed := start(t, url).live(t)
	data := server.Cluster(t)
	data.Ctl(t, "stop", "--mode=fast", "--wait")
	backup, err := os.MkdirTemp(filepath.Dir(data.Dir), "copy-")
	require.NoError(t, err)
	require.NoError(t, os.Remove(backup))
	copyAll(t, data.Dir, backup)
	server.Restart(t)

	feed.live(t)
	testkit.Exec(t, url, `insert into messages (conversation, author, body) select 'phantom', 'a', 'b' from generate_series(1, 100)`)
	before := feed.caughtUp(t)
	data.Ctl(t, "stop", "--mode=fast", "--wait")
	require.NoError(t, os.RemoveAll(data.Dir))
	copyAll(t, backup, data.Dir)
	server.Restart(t)
	feed.await(t, "a higher epoch", func() bool { return feed.Frontier().Epoch > before.Epoch && feed.Ready() == nil })
	require.Zero(t, count(t, url, "phantom"))
	subscription, err := feed.Subscribe([]string{"conversations/phantom/messages"}, since(before))
	require.NoError(t, err)
	defer subscription.Close()
	require.True(t, subscription.Take().Reset)
}

// copyAll copies a directory with owners and modes.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(testkit.Context(t), "cp", "-a", from, to).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}
