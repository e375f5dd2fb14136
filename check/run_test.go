package check_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// serve starts the real server; it stops with the test.
func serve(t *testing.T, database string, change func(*live.Config)) string {
	t.Helper()
	at, err := url.Parse(database)
	require.NoError(t, err)
	return live.Start(t, database, func(c *live.Config) {
		// Slots' names are the whole server's, which other tests use meanwhile.
		c.Slot, c.Heartbeat, c.Logger = "check_"+strings.TrimPrefix(at.Path, "/"), time.Second, slog.New(slog.DiscardHandler)
		if change != nil {
			change(c)
		}
	}).URL
}

func requireNoViolation(t *testing.T, report *check.Report) {
	t.Helper()
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	t.Log(text.String())
	require.Zero(t, report.Violations())
	require.Positive(t, report.Writes)
	for _, v := range report.Verdicts {
		require.Positive(t, v.Observations, v.Rule)
	}
}

func TestRun_realServer(t *testing.T) {
	t.Parallel()
	url := testkit.Migrated(t)
	address := serve(t, url, nil)
	ctx := testkit.Context(t)
	cfg := check.Config{Workload: workload.Messages(), URL: address, Run: "real", Duration: 4 * time.Second, Round: 2 * time.Second, Patience: time.Minute, Clients: 20, Places: 6, Writers: 3, Rate: 60}
	database, err := check.OpenPostgres(ctx, url, cfg.Run, workload.Messages().Table)
	require.NoError(t, err)
	require.Empty(t, database.Note())
	cfg.Database = database
	told := make(chan check.Progress, 100)
	cfg.Progress = func(p check.Progress) { told <- p }
	report, err := check.Run(ctx, cfg)
	require.NoError(t, err)
	requireNoViolation(t, report)
	require.NotEmpty(t, told)
	require.Positive(t, report.Exact, "positions come from the slot")
	require.Positive(t, report.Notice.N)
	require.Positive(t, report.Data.N)
	require.LessOrEqual(t, report.Notice.P50, report.Data.P50)

	var object map[string]any
	text, err := json.Marshal(report)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &object))
	require.Len(t, object["rules"], len(check.Rules))
	requireXML(t, report.SVG())

	require.NoError(t, database.Close(ctx, cfg.PlaceNames()))
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var left int
	require.Eventually(t, func() bool { // its backends end on their own
		require.NoError(t, conn.QueryRow(ctx, `select (select count(*) from messages where author = 'freshet check')
			+ (select count(*) from pg_publication where pubname like 'freshet_check%') + (select count(*) from pg_namespace where nspname = 'freshet_check')
			+ (select count(*) from pg_replication_slots where slot_name like 'freshet_check%' and database = current_database())`).Scan(&left))
		return left == 0
	}, time.Minute, 10*time.Millisecond, "the checker leaves nothing behind")
}

// A service that has the least there can be, of a table of its own that is emptied
// meanwhile: rows that are made and never changed by RPC.
func TestRun_leastWorkload(t *testing.T) {
	t.Parallel()
	url := testkit.Migrated(t)
	address := serve(t, url, nil)
	ctx := testkit.Context(t)
	full := workload.Messages()
	cfg := check.Config{
		URL: address, Workload: check.Workload{Topics: full.Topics[:1], Create: full.Create, Table: full.Table}, Run: "least",
		Duration: 6 * time.Second, Round: 2 * time.Second, Patience: time.Minute, Clients: 8, Places: 3, Writers: 2, Rate: 100, Stage: &check.Stage{},
	}
	database, err := check.OpenPostgres(ctx, url, cfg.Run, full.Table)
	require.NoError(t, err)
	cfg.Database = database
	report, err := check.Run(ctx, cfg)
	require.NoError(t, err)
	requireNoViolation(t, report)
	for _, e := range report.Exercised {
		require.NotContains(t, []check.Exercise{"UpdateMessage", "DeleteMessage", "GetMessage", "ListConversations"}, e.Exercise, "it has none")
		if e.Exercise == "CreateMessage" || e.Exercise == "TRUNCATE" || e.Exercise == "Freshet-Topics" {
			require.Positive(t, e.N, e.Exercise)
		}
	}
	require.NoError(t, database.Close(ctx, cfg.PlaceNames()))
}

// Without a database, RPCs are all there is.
func TestRun_withoutDatabase(t *testing.T) {
	t.Parallel()
	address := serve(t, testkit.Migrated(t), nil)
	report, err := check.Run(testkit.Context(t), check.Config{
		URL: address, Workload: workload.Messages(), Duration: 2 * time.Second, Round: 2 * time.Second, Patience: time.Minute, Clients: 10, Places: 4, Writers: 3, Rate: 60,
	})
	require.NoError(t, err)
	requireNoViolation(t, report)
	require.Len(t, report.Notes, 1)
	require.Contains(t, report.Notes[0], "without its database (--database-url, --serve; Config.Database)")
	// F68: the report says what nothing is known of, and why.
	needs := map[check.Exercise]string{}
	for _, e := range report.Exercised {
		if e.N == 0 {
			needs[e.Exercise] = e.Needs
		}
	}
	require.Equal(t, "--database-url, --serve; Config.Database", needs["COPY"])
	require.Equal(t, "--serve, --cluster; Config.Stage", needs["TRUNCATE"])
	require.NotContains(t, needs, check.Exercise("GetMessage"))
	var text strings.Builder
	require.NoError(t, report.WriteText(&text))
	require.Contains(t, text.String(), "\nnot exercised: ")
	require.Contains(t, text.String(), "TRUNCATE (needs --serve, --cluster; Config.Stage)")
	text.Reset()
	require.NoError(t, json.NewEncoder(&text).Encode(report))
	require.Contains(t, text.String(), `{"needs":"--serve, --cluster; Config.Stage","what":"TRUNCATE"}`)
}

func TestRun_nobodyThere(t *testing.T) {
	_, err := check.Run(t.Context(), check.Config{URL: "http://127.0.0.1:1", Workload: workload.Messages()})
	require.ErrorContains(t, err, "doesn't answer")
	_, err = check.Run(t.Context(), check.Config{})
	require.Error(t, err)
}

// Where there can be no slot, positions are intervals, and the checker says so.
func TestOpenPostgres_withoutSlot(t *testing.T) {
	t.Parallel()
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// Creation of a slot waits for an open transaction, the checker not for long.
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "select pg_current_xact_id()")
	require.NoError(t, err)
	database, err := check.OpenPostgres(ctx, url, "slotless", workload.Messages().Table)
	require.NoError(t, err)
	require.Contains(t, database.Note(), "intervals")
	positions, err := database.Positions(ctx)
	require.NoError(t, err)
	require.Empty(t, positions)
	require.NoError(t, tx.Rollback(ctx))

	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	began := time.Now()
	write := check.Write{Writer: "sql-1", Changes: []check.Change{{Cell: check.Cell{Row: 1, Version: 1}, To: "check-slotless-0"}}}
	require.NoError(t, s.Write(ctx, &write, check.Insert(1), func() time.Duration { return time.Since(began) }))
	require.Equal(t, check.Committed, write.Outcome)
	require.Positive(t, write.After.Position)
	held, err := s.Read(ctx, []string{"check-slotless-0"})
	require.NoError(t, err)
	require.Equal(t, map[string][]check.Cell{"check-slotless-0": {{Row: 1, Version: 1}}}, held.Places)
	require.NoError(t, database.Close(ctx, []string{"check-slotless-0"}))
}

func requireXML(t *testing.T, text string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

// What became of a transaction whose COMMIT had no answer is asked afterwards.
func TestPostgres_outcomes(t *testing.T) {
	url := testkit.Migrated(t)
	begin(t, url, 3)
	ctx := testkit.Context(t)
	database, err := check.OpenPostgres(ctx, url, "outcomes", workload.Messages().Table)
	require.NoError(t, err)
	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	var writes []check.Write
	for i, rollback := range []bool{false, true} {
		how := check.Insert(i + 1)
		how.Rollback = rollback
		w := check.Write{Changes: []check.Change{{Cell: check.Cell{Row: i + 1, Version: 1}, To: "check-outcomes-0"}}}
		require.NoError(t, s.Write(ctx, &w, how, func() time.Duration { return 0 }))
		writes = append(writes, w)
	}
	again := writes[0] // the xid was given a second time
	again.After.Position++
	outcomes, err := database.Outcomes(ctx, append(writes, again))
	require.NoError(t, err)
	require.Equal(t, []check.Outcome{check.Committed, check.RolledBack, check.Unknown}, outcomes)

	positions, err := database.Positions(ctx)
	require.NoError(t, err)
	require.Len(t, positions, 1)
	at := positions[writes[0].Xid&math.MaxUint32]
	require.Greater(t, at, writes[0].After.Position, "the commit's end is above its last change")
	require.NoError(t, database.Close(ctx, []string{"check-outcomes-0"}))
}

// begin begins an epoch, as a server does.
func begin(t *testing.T, url string, e freshet.Epoch) {
	t.Helper()
	testkit.Exec(t, url, `insert into freshet.incarnation ("only", epoch, system_identifier, timeline, postmaster_start)
		values (true, $1, 'test', 1, pg_postmaster_start_time())
		on conflict ("only") do update set epoch = excluded.epoch, postmaster_start = excluded.postmaster_start`, int64(e))
}

// F42: a clean shutdown keeps the row that names the epoch, which has ended. Until the
// next one has begun, nobody knows of which epoch it is what is written and read.
func TestPostgres_F42_cleanRestart(t *testing.T) {
	t.Parallel()
	server := testkit.NewServer(t, map[string]string{"fsync": "off"})
	url, ctx := server.Migrated(t), testkit.Context(t)
	begin(t, url, 3)
	const place = "check-restarted-0"
	database, err := check.OpenPostgres(ctx, url, "restarted", workload.Messages().Table)
	require.NoError(t, err)
	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	last := 0
	// writes returns of which epoch what is written then is, and what is read.
	writes := func() (after, upto, held freshet.Epoch) {
		last++
		w := check.Write{Changes: []check.Change{{Cell: check.Cell{Row: last, Version: 1}, To: place}}}
		require.NoError(t, s.Write(ctx, &w, check.Insert(last), func() time.Duration { return 0 }))
		read, err := s.Read(ctx, []string{place})
		require.NoError(t, err)
		require.Len(t, read.Places[place], last)
		return w.After.Epoch, w.Upto.Epoch, read.Epoch
	}
	requireEpoch := func(want freshet.Epoch) {
		after, upto, held := writes()
		require.Equal(t, []freshet.Epoch{want, want, want}, []freshet.Epoch{after, upto, held})
	}
	requireEpoch(3)
	server.Restart(t)
	_, err = s.Read(ctx, nil) // on a connection that is there
	require.NoError(t, err)
	requireEpoch(0)
	begin(t, url, 4)
	requireEpoch(4)
	require.NoError(t, database.Close(ctx, []string{place}))
}

// After a crash of Postgres the slot is gone, and is made again.
func TestPostgres_positionsAfterACut(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	database, err := check.OpenPostgres(ctx, url, "cut", workload.Messages().Table)
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'freshet_check_cut'")
	require.NoError(t, err)
	_, err = database.Positions(ctx)
	require.Error(t, err)
	positions, err := database.Positions(ctx)
	require.NoError(t, err)
	require.Empty(t, positions)
	require.NoError(t, database.Close(ctx, nil))
}

// A connection that was cut between two reads is no reason to read nothing.
func TestPostgres_readAfterACut(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	database, err := check.OpenPostgres(ctx, url, "again", workload.Messages().Table)
	require.NoError(t, err)
	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Read(ctx, []string{"check-again-0"})
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	require.NoError(t, err)
	_, err = s.Read(ctx, []string{"check-again-0"})
	require.NoError(t, err)
	require.NoError(t, database.Close(ctx, nil))
}

// commits writes changes, one transaction each call.
func commits(ctx context.Context, t *testing.T, s check.Session, how check.Manner, changes ...check.Change) {
	t.Helper()
	w := check.Write{Changes: changes}
	require.NoError(t, s.Write(ctx, &w, how, func() time.Duration { return 0 }))
	require.Equal(t, check.Committed, w.Outcome)
}

// F68: what a writer can do to a database beside INSERT, UPDATE and DELETE. The table
// is in its publication again afterwards.
func TestPostgres_manners(t *testing.T) {
	url := testkit.Migrated(t)
	ctx := testkit.Context(t)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "create publication theirs for table public.messages")
	require.NoError(t, err)
	published := func() (n int) {
		require.NoError(t, conn.QueryRow(ctx, "select count(*) from pg_publication_tables where pubname = 'theirs' and tablename = 'messages'").Scan(&n))
		return n
	}
	var before uint32
	require.NoError(t, conn.QueryRow(ctx, "select oid from pg_publication_rel where prrelid = 'public.messages'::regclass").Scan(&before))
	database, err := check.OpenPostgres(ctx, url, "manners", workload.Messages().Table)
	require.NoError(t, err)
	s, err := database.Session(ctx)
	require.NoError(t, err)
	defer s.Close()
	holds := func() []check.Cell {
		held, err := s.Read(ctx, []string{"check-manners-0"})
		require.NoError(t, err)
		return held.Places["check-manners-0"]
	}
	how := check.Insert(1)
	how.Copy, how.Emit = true, []string{"one.of.ours"}
	commits(ctx, t, s, how, check.Change{Cell: check.Cell{Row: 1, Version: 1}, To: "check-manners-0"})
	how = check.Insert(2)
	how.Unpublished = true
	commits(ctx, t, s, how, check.Change{Cell: check.Cell{Row: 2, Version: 1}, To: "check-manners-0"})
	require.Equal(t, 1, published())
	var after uint32
	require.NoError(t, conn.QueryRow(ctx, "select oid from pg_publication_rel where prrelid = 'public.messages'::regclass").Scan(&after))
	require.NotEqual(t, before, after, "it was out of it")
	require.Equal(t, []check.Cell{{Row: 1, Version: 1}, {Row: 2, Version: 1}}, holds())
	commits(ctx, t, s, check.Manner{Truncate: true}, check.Change{Cell: check.Cell{Row: 1, Version: 2}, From: "check-manners-0"})
	require.Empty(t, holds())
	require.NoError(t, database.Close(ctx, nil))
}
