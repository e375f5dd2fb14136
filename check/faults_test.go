package check_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// A seed gives the same faults whatever happens between them, and each is dealt
// once before any comes again.
func TestFaults_seed(t *testing.T) {
	n := len(check.FaultNames())
	first := check.Schedule(7, 1, 5*n)
	require.Equal(t, first, check.Schedule(7, 1, 5*n))
	require.NotEqual(t, first, check.Schedule(8, 1, 5*n))
	seen := map[string]bool{}
	for _, p := range first[:n] {
		seen[p.Name] = true
	}
	require.Len(t, seen, n)
}

// What happens to one node is dealt to each, before anything comes again.
func TestFaults_perNode(t *testing.T) {
	seen := map[string][]int{}
	for _, p := range check.Schedule(7, 3, check.Deck(3)) {
		seen[p.Name] = append(seen[p.Name], p.Node)
	}
	require.Len(t, seen, len(check.FaultNames()))
	for name, of := range seen {
		switch name {
		case "kill-server", "freeze-server", "partition-server", "cut-pool", "cut-feed", "stall-feed", "delay-database", "cut-node", "stall-node", "stall-replica":
			require.ElementsMatch(t, []int{0, 1, 2}, of, name)
		default:
			require.Equal(t, []int{-1}, of, name)
		}
	}
}

func TestFaults_refused(t *testing.T) {
	for _, tt := range []struct {
		faults []string
		says   string
	}{
		{[]string{"earthquake"}, `"earthquake" is no fault: there are kill-server, `},
		{[]string{"kill-server", "cut-clients"}, "faults: kill-server can only be done to a server of the checker's own (--serve, --cluster; Config.Stage); possible here: cut-clients,"},
		{[]string{"long-transaction"}, "faults: long-transaction needs its database (--database-url, --serve; Config.Database); possible"},
		{[]string{"cut-node"}, "faults: cut-node needs a balancer of the checker's own (--cluster; Node.Front); possible here: cut-clients,"},
		{[]string{"pause-replay"}, "faults: pause-replay can only be done to a standby of the checker's own (--cluster; Stage.Standby); possible here: cut-clients,"},
		{[]string{"kill-nats"}, "faults: kill-nats can only be done to servers of NATS of the checker's own (--cluster --nats; Stage.NATS); possible here: cut-clients,"},
		{[]string{"all"}, "lose-slot can only be done to a slot of the checker's own"},
		{[]string{"none", "cut-clients"}, "none, and others?"},
	} {
		_, err := check.Run(t.Context(), check.Config{URL: "http://127.0.0.1:1", Workload: workload.Messages(), Faults: tt.faults})
		require.ErrorContains(t, err, tt.says)
	}
	// A stage of somebody's own that can't do everything.
	node := check.Node{Kill: func() {}, Freeze: func(bool) {}}
	one, two := []check.Node{node}, []check.Node{node, node}
	for _, tt := range []struct {
		stage      check.Stage
		name, says string
		possible   string
	}{
		{check.Stage{}, "kill-server", "Config.Stage", "cut-clients"},
		{check.Stage{Nodes: one}, "lose-slot", "Stage.DropSlot", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "hold-commits", "Stage.HoldCommits", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "crash-postgres", "Stage.CrashPostgres", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "cut-pool", "Node.Pool", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "kill-all-servers", "Stage.Nodes", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "pause-replay", "Stage.Standby", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: one}, "kill-nats", "Stage.NATS", "kill-server,freeze-server,cut-clients"},
		{check.Stage{Nodes: two}, "cut-node", "Node.Front", "kill-server,kill-all-servers,freeze-server,cut-clients"},
		{check.Stage{Nodes: one, Standby: new(check.Standby)}, "stall-replica", "Node.Replica", "kill-server,freeze-server,cut-clients"},
	} {
		cfg := check.Config{URL: "http://127.0.0.1:1", Workload: workload.Messages(), Stage: &tt.stage, Faults: []string{tt.name}}
		_, err := check.Run(t.Context(), cfg)
		require.ErrorContains(t, err, tt.says)
		require.ErrorContains(t, err, "possible here: "+tt.possible+",")
		cfg.Faults = []string{"all"}
		_, err = check.Run(t.Context(), cfg)
		require.ErrorContains(t, err, "doesn't answer", "what it can't do is left out")
	}
}

// What can be done to any server leaves a right one without a violation, and
// everybody converges afterwards.
func TestRun_faults(t *testing.T) {
	t.Parallel()
	n := newNode(t, none)
	report, err := check.Run(t.Context(), check.Config{
		URL: n.url, Workload: workload.Messages(), Database: n.world, Run: "faults", Seed: 3, Duration: 12 * time.Second, Round: 6 * time.Second, Patience: time.Minute,
		Clients: 12, Places: 6, Writers: 3, Rate: 120,
		Faults: []string{"cut-clients", "refuse-clients", "stall-clients", "delay-clients", "stop-reading", "freeze-clients", "long-transaction"},
	})
	require.NoError(t, err)
	requireNoViolation(t, report)
	require.NotEmpty(t, report.Faults)
	require.Positive(t, report.Converged.N)
}

// held waits until somebody's commit hangs.
func held(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for {
		var hangs bool
		require.NoError(t, conn.QueryRow(ctx, "select exists (select from pg_stat_activity where wait_event = 'SyncRep')").Scan(&hangs))
		if hangs {
			return
		}
	}
}

func TestPostgres_faults(t *testing.T) {
	t.Parallel()
	url := testkit.NewServer(t, map[string]string{"fsync": "off"}).Migrated(t)
	ctx := testkit.Context(t)
	database, err := check.OpenPostgres(ctx, url, "faulty", workload.Messages().Table)
	require.NoError(t, err)
	session, err := database.Session(ctx)
	require.NoError(t, err)
	defer session.Close()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	require.NoError(t, database.HoldCommits(ctx, true))
	// Postgres takes the setting up a little later: so commits until one hangs.
	released := make(chan struct{})
	outcomes := make(chan check.Outcome, 1)
	go func() {
		for row := 1; ; row++ {
			write := check.Write{Changes: []check.Change{{Cell: check.Cell{Row: row, Version: 1}, To: "check-faulty-0"}}}
			err := session.Write(ctx, &write, check.Insert(row), func() time.Duration { return 0 })
			select {
			case <-released:
				outcomes <- write.Outcome
				return
			default:
			}
			if err != nil {
				outcomes <- write.Outcome
				return
			}
		}
	}()
	held(ctx, t, conn)
	close(released)
	require.NoError(t, database.HoldCommits(ctx, false))
	require.Equal(t, check.Committed, <-outcomes)

	_, err = conn.Exec(ctx, "select pg_create_logical_replication_slot('victim', 'pgoutput')")
	require.NoError(t, err)
	require.NoError(t, database.DropSlot(ctx, "victim"))
	var left int
	require.NoError(t, conn.QueryRow(ctx, "select count(*) from pg_replication_slots where slot_name = 'victim'").Scan(&left))
	require.Zero(t, left)
	require.NoError(t, database.DropSlot(ctx, "victim"), "there is none")
	require.NoError(t, database.Close(ctx, []string{"check-faulty-0"}))
}

// What the standby's faults do to it: replay stands still and goes on, and what reads
// there is cancelled.
func TestPostgres_standby(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off", "max_standby_streaming_delay": "0"})
	url := server.Migrated(t)
	there := server.Standby(t).URL(t, url)
	ctx := testkit.Context(t)
	database, err := check.OpenPostgres(ctx, url, "standby", workload.Messages().Table)
	require.NoError(t, err)
	replays := func() (paused bool) {
		require.NoError(t, testkit.Conn(t, there).QueryRow(ctx, "select pg_is_wal_replay_paused()").Scan(&paused))
		return !paused
	}
	require.NoError(t, check.PauseReplay(ctx, there, true))
	require.False(t, replays())
	require.NoError(t, check.PauseReplay(ctx, there, false))
	require.True(t, replays())
	require.Error(t, check.PauseReplay(ctx, url, true), "it is no standby")

	require.Eventually(t, func() bool { // until it has replayed that the table is there
		_, err := testkit.Conn(t, there).Exec(ctx, "select from messages limit 0")
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	reading := make(chan error, 1)
	conn := testkit.Conn(t, there)
	go func() {
		_, err := conn.Exec(ctx, "select pg_sleep(60) from (select count(*) from messages) of")
		reading <- err
	}()
	require.Eventually(t, func() bool {
		var sleeps bool
		require.NoError(t, testkit.Conn(t, there).QueryRow(ctx, "select exists (select from pg_stat_activity where wait_event = 'PgSleep')").Scan(&sleeps))
		return sleeps
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, database.Conflict(ctx, 0))
	require.ErrorContains(t, <-reading, "conflict with recovery")
	require.NoError(t, database.Close(ctx, nil))
}

// What replay on the standby cancels is done again; what fails otherwise is not.
func TestUnlessCancelled(t *testing.T) {
	t.Parallel()
	conflict, other := error(&pgconn.PgError{Code: "40001"}), error(&pgconn.PgError{Code: "55000"})
	for _, answers := range [][]error{{nil}, {conflict, conflict, nil}, {conflict, other}} {
		n := 0
		err := check.UnlessCancelled(t.Context(), func() error {
			n++
			return answers[n-1]
		})
		require.Equal(t, answers[len(answers)-1], err)
		require.Len(t, answers, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, conflict, check.UnlessCancelled(ctx, func() error { return conflict }))
}
