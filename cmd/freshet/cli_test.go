package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// TestMain is the program itself when a test starts its binary as `freshet serve`,
// `freshet cluster`, or as a shell does that completes. All runs where
// users start it, since npm's Postgres is looked for in web/node_modules there.
func TestMain(m *testing.M) {
	if err := os.Chdir(testkit.Root()); err != nil {
		panic(err)
	}
	if len(os.Args) > 1 && slices.Contains([]string{"serve", "cluster", "completion", "complete"}, os.Args[1]) {
		main()
	}
	// No test is to use what the caller's shell has set for the program; those that run
	// side by side couldn't unset it themselves.
	without := environWithoutOurs()
	os.Clearenv()
	for _, pair := range without {
		name, value, _ := strings.Cut(pair, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	testkit.Main(m)
}

// runs is the program, run to its end.
func runs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(testkit.Context(t), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCLI_everyFlagHasATwinInTheEnvironment(t *testing.T) {
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	require.NoError(t, err)
	seen := 0
	var visit func(*kong.Node)
	visit = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if flag.Name == "help" || flag.Name == "version" {
				continue
			}
			seen++
			require.NotEmpty(t, flag.Help, flag.Name)
			if n.Name == "doctor" && flag.Name == "url" {
				// It chooses what doctor looks at; the one set for watch and check must not.
				require.Equal(t, []string{"FRESHET_DOCTOR_URL"}, flag.Envs)
				continue
			}
			require.Contains(t, flag.Envs, "FRESHET_"+strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")))
		}
		for _, child := range n.Children {
			require.NotEmpty(t, child.Help, child.Name)
			visit(child)
		}
	}
	visit(parser.Model.Node)
	require.Greater(t, seen, 20)
}

func TestCLI_usage(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "expected one of"},
		{"--version", exitOK, "freshet "},
		{"serve --help", exitOK, "FRESHET_ADMIN_ADDR"},
		{"nonsense", exitUsage, "freshet --help"},
		{"serve --max-wait=soon", exitUsage, "freshet serve --help"},
		{"doctor", exitUsage, "set DATABASE_URL"},
		{"migrate up", exitUsage, "freshet migrate up --help"},
		{"teardown", exitUsage, "--database-url"},
		{"serve --database-url=postgres://x --addr=0.0.0.0:8080", exitUsage, "--insecure"},
		{"serve --database-url=postgres://x --addr=0.0.0.0:8080 --jwt-keys=x --jwt-audience=x --auth-anonymous", exitUsage, "--insecure"},
		{"serve --database-url=postgres://x --admin-addr=0.0.0.0:9090 --jwt-keys=x --jwt-audience=x", exitUsage, "--insecure"},
		{"serve --database-url=postgres://x --addr=0.0.0.0:8080 --jwt-keys=/does/not/exist --jwt-audience=x", exitFailed, "no such file"},
		{"serve --database-url=postgres://x --jwt-keys=x", exitUsage, "--jwt-audience"},
		{"serve --database-url=postgres://x --oidc-issuer=http://id.example.com --jwt-audience=x", exitUsage, "https"},
		{"serve --database-url=postgres://x --auth-anonymous", exitUsage, "--oidc-issuer"},
		{"serve --database-url=postgres://x --auth-cookie=x", exitUsage, "--jwt-keys"},
		{"serve --database-url=postgres://x --max-lag=0s", exitUsage, "--max-lag: want a value from 100ms"},
		{"serve --database-url=postgres://x --max-lag=0s --heartbeat=1ms", exitUsage, "--heartbeat: want"},
		{"serve --database-url=postgres://x --slot=UPPER", exitUsage, "--slot: want 1 to 54"},
		{"serve --database-url=postgres://x --replica-url=foo", exitUsage, "--replica-url: want a URL"},
		{"serve --database-url=postgres://x --nats-fallback", exitUsage, "--nats-fallback: want nothing, where no server of NATS is named"},
		{"serve --database-url=postgres://x --db-anonymous-role=guest", exitUsage, "--db-anonymous-role: want nothing, where no claim names roles"},
		{"serve --database-url=postgres://%zz", exitUsage, "database URL"},
		{"serve --database-url=postgres://x --trusted-proxy=me", exitUsage, "--trusted-proxy"},
		{"serve --demo-auth --host=app.example.com", exitUsage, "leave out --host"},
		// Somebody may put a file there.
		{"serve --database-url=postgres://x?sslrootcert=/does/not/exist&sslmode=verify-full", exitFailed, "no such file"},
		{"serve --database-url=postgres://x --tls-cert=/does/not/exist --tls-key=/does/not/exist", exitFailed, "no such file"},
		{"serve --database-url=postgres://x --grants=/does/not/exist", exitFailed, "no such file"},
		{"serve --database-url=postgres://x --nats-url=nats://h:4222 --nats-creds=/does/not/exist", exitFailed, "no such file"},
		{"serve --database-url=postgres://x --nats-url=nats://h:4222 --nats-ca=" + os.DevNull, exitFailed, "there is none in"},
		{"doctor --database-url=postgres://nobody@127.0.0.1:1/none", exitFailed, "connect to the database"},
		{"lint", exitOK, "The contract is sound"},
		{"lint /does/not/exist", exitFailed, "no such file"},
		{"lint proto", exitFailed, "buf build -o image.binpb"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := runs(t, strings.Fields(tt.args)...)
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stdout+stderr, tt.want)
		})
	}
}

func TestLint_image(t *testing.T) {
	bad := filepath.Join(testkit.Root(), "contract", "testdata", "image.binpb")
	code, stdout, _ := runs(t, "lint", bad)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `^\S+\.proto:\d+:\d+: .+\(field-exists\)`, stdout)

	code, stdout, stderr := runs(t, "lint", imageFile(t, "examples/notes/proto"))
	require.Equal(t, exitOK, code)
	require.Empty(t, stdout)
	require.Regexp(t, `^no problems in 1 source, \d+ methods\n$`, stderr)

	junk := filepath.Join(t.TempDir(), "junk")
	require.NoError(t, os.WriteFile(junk, []byte("\xff"), 0o600))
	code, _, stderr = runs(t, "lint", junk)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "read image")
}

// A database from nothing to ready, out of order, and back.
func TestDatabase_doctorMigrateTeardown(t *testing.T) {
	database := testkit.Database(t)
	t.Setenv("DATABASE_URL", database)

	code, stdout, _ := runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "-- problem: ")
	require.Contains(t, stdout, "freshet migrate up")

	code, stdout, stderr := runs(t, "migrate", "up")
	require.Equal(t, exitOK, code, stdout+stderr)
	code, stdout, _ = runs(t, "migrate", "status")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "00001_freshet.sql")
	require.NotContains(t, stdout, "pending")

	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)

	testkit.Exec(t, database, `alter table messages rename author to writer; insert into freshet.goose_db_version (version_id, is_applied) values (1099, true)`)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "the database has migration 1099")
	testkit.Exec(t, database, `delete from freshet.goose_db_version where version_id = 1099`)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, `column "author" of relation "messages" does not exist`)
	testkit.Exec(t, database, `alter table messages rename writer to author`)

	testkit.Exec(t, database, `drop publication freshet`)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "create publication")
	testkit.Exec(t, database, stdout) // the output is an SQL script
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)

	// What another version may need is listed for who asks.
	testkit.Exec(t, database, `create table other (id int primary key); alter publication freshet add table other`)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)
	require.NotContains(t, stdout, "other")
	code, stdout, _ = runs(t, "doctor", "--leftovers")
	require.Equal(t, exitOK, code, stdout)
	require.Contains(t, stdout, `--   alter publication "freshet" drop table "public"."other";`)

	code, stdout, _ = runs(t, "teardown")
	require.Equal(t, exitOK, code)
	require.Equal(t, "There is no slot \"freshet\".\nThe publication \"freshet\" is gone.\n", stdout)
	code, _, stderr = runs(t, "migrate", "down")
	require.Equal(t, exitFailed, code, "data isn't dropped without a word")
	require.Contains(t, stderr, "ALL THE DATA")
	code, stdout, _ = runs(t, "migrate", "status")
	require.NotContains(t, stdout, "pending")
	require.Equal(t, exitOK, code)
	for _, name := range []string{"00001_messages.sql", "00004_incarnation_secret.sql", "00003_incarnation_database.sql", "00001_freshet.sql"} {
		code, stdout, stderr = runs(t, "migrate", "down", "--yes")
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, name)
	}
	code, stdout, _ = runs(t, "migrate", "down", "--yes")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "no migration to take back")
	code, stdout, _ = runs(t, "migrate", "status")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "pending")
}

// A table without an identity, and an application that writes to it: `migrate up`
// says what it would take, and with --set-up does it. No write fails or waits.
func TestMigrate_setUp(t *testing.T) {
	database := testkit.Database(t)
	t.Setenv("DATABASE_URL", database)
	code, stdout, stderr := runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stdout+stderr)
	require.Contains(t, stdout, "-- run: create publication")
	code, _, stderr = runs(t, "teardown")
	require.Equal(t, exitOK, code, stderr)
	testkit.Exec(t, database, `alter table messages drop constraint messages_pkey, drop constraint messages_conversation_id_key`)

	ctx, cancel := context.WithCancel(testkit.Context(t))
	defer cancel()
	writer, wrote := testkit.Conn(t, database), make(chan error, 1)
	go func() {
		_, err := writer.Exec(context.WithoutCancel(ctx), `set lock_timeout = '2s'`)
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			_, err = writer.Exec(context.WithoutCancel(ctx), []string{
				`insert into messages (conversation, author, body) values ('7', 'ada', 'hello')`,
				`update messages set body = 'hello again'`,
				`delete from messages`,
			}[i%3])
		}
		wrote <- err
	}()
	code, stdout, stderr = runs(t, "migrate", "up")
	require.Equal(t, exitFailed, code, stdout+stderr)
	require.Contains(t, stdout, "replica identity full;")
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code, stdout)

	code, stdout, stderr = runs(t, "migrate", "up", "--set-up")
	require.Equal(t, exitOK, code, stdout+stderr)
	require.Contains(t, stdout, "-- run: ")
	require.Contains(t, stdout, "ready for `freshet serve`")
	for line := range strings.SplitSeq(strings.TrimSpace(stdout), "\n") {
		require.True(t, strings.HasPrefix(line, "--"), "it is a script as well: %s", line)
	}
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)
	_, stop := serving(t, "--no-migrate", "--database-url", database)
	require.Equal(t, exitOK, stop())
	cancel()
	require.NoError(t, <-wrote)
}

// Another publication than the default one, from set-up to teardown.
func TestDatabase_publication(t *testing.T) {
	database := testkit.Database(t)
	t.Setenv("DATABASE_URL", database)
	code, stdout, stderr := runs(t, "migrate", "up", "--publication", "theirs")
	require.Equal(t, exitOK, code, stdout+stderr)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, `the publication "freshet" is missing`)
	code, stdout, _ = runs(t, "doctor", "--publication", "theirs")
	require.Equal(t, exitOK, code, stdout)
	_, stop := serving(t, "--no-migrate", "--publication", "theirs", "--database-url", database)
	require.Equal(t, exitOK, stop())
	code, stdout, stderr = runs(t, "teardown", "--publication", "theirs")
	require.Equal(t, exitOK, code, stdout+stderr)
	code, stdout, _ = runs(t, "doctor", "--publication", "theirs")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, `the publication "theirs" is missing`)
}

// What takes down a database's set-up doesn't do it under a node that serves.
func TestDatabase_inUse(t *testing.T) {
	database := testkit.Database(t)
	_, stop := serving(t, "--database-url", database)
	t.Setenv("DATABASE_URL", database)
	code, _, stderr := runs(t, "teardown")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--force drops the slot all the same")
	code, _, stderr = runs(t, "migrate", "down", "--yes")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "nodes follow this database (")
	code, stdout, _ := runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)

	// Another slot than the node's: the publication is the node's, too.
	other := testkit.Slot(t, database) + "_other"
	testkit.Exec(t, database, `select pg_create_logical_replication_slot($1, 'pgoutput')`, other)
	code, stdout, stderr = runs(t, "teardown", "--slot", other, "--force")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, `The slot "`+other+`" is gone.`)
	require.Contains(t, stdout, `The publication "freshet" stays`)
	require.Contains(t, stdout, `drop publication "freshet";`)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)
	testkit.Exec(t, database, `select pg_create_logical_replication_slot($1, 'pgoutput')`, other)
	code, _, stderr = runs(t, "teardown", "--force")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "would make the slot")
	require.Equal(t, exitOK, stop())
}

// Nodes whose set-up was taken away under them wait until somebody has set the database
// up again, and then go on by themselves, whoever that was.
func TestTeardown_nodesGoOn(t *testing.T) {
	database := testkit.Database(t)
	t.Setenv("DATABASE_URL", database)
	url, stop := serving(t, "--database-url", database)
	b := newBrowser(t, url)
	until := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool {
			code, _ := b.send(t, http.MethodGet, "/readyz", "", "")
			return code == want
		}, time.Minute, 10*time.Millisecond)
	}
	for name, setUp := range map[string]func(){
		"migrate up": func() {
			code, stdout, stderr := runs(t, "migrate", "up")
			require.Equal(t, exitOK, code, stdout+stderr)
		},
		"another node": func() {
			_, stop := serving(t, "--database-url", database)
			require.Equal(t, exitOK, stop())
		},
	} {
		e := b.follow(t, "7")
		code, stdout, stderr := runs(t, "teardown", "--force")
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, "They go on by themselves once", name)
		until(http.StatusServiceUnavailable)
		// What is written meanwhile nobody is told of as such.
		testkit.Exec(t, database, `insert into messages (conversation, author, body) values ('7', 'ada', $1)`, "meanwhile, "+name)
		setUp()
		until(http.StatusOK)
		e.until(t, "invalidate")
		_, text := b.list(t, "7")
		require.Contains(t, text, "meanwhile, "+name)
		e = b.follow(t, "7")
		status, said := b.say(t, "7", "hello again")
		require.Equal(t, http.StatusOK, status, said)
		e.until(t, "invalidate")
	}
	require.Equal(t, exitOK, stop())
}

// The output of doctor is a script that an owner can run as it is: what only a
// superuser may, or somebody must decide, is a comment in it.
func TestDoctor_script(t *testing.T) {
	server := testkit.NewServer(t, map[string]string{"fsync": "off", "max_slot_wal_keep_size": "-1"})
	database := server.Database(t)
	testkit.Exec(t, database, `create role owner login replication; create schema freshet authorization owner; grant create on schema public to owner;
do $$ begin execute format('grant create on database %I to owner', current_database()); end $$`)
	as := strings.Replace(database, "postgres@", "owner@", 1)
	require.NotEqual(t, database, as)
	t.Setenv("DATABASE_URL", as)
	require.NoError(t, testkit.Migrate(testkit.Context(t), as))
	testkit.Exec(t, as, `alter table messages replica identity default`)
	testkit.Exec(t, as, `select pg_create_logical_replication_slot('left_over', 'pgoutput')`)

	code, stdout, stderr := runs(t, "doctor")
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, stdout, "-- to be run by a superuser (at a managed provider: in its console):\n--   alter system set max_slot_wal_keep_size = '16GB';\n--   select pg_reload_conf();\n")
	require.Contains(t, stdout, "--   select pg_drop_replication_slot('left_over');")
	require.NotContains(t, stdout, ";;")
	testkit.Exec(t, as, stdout)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code, stdout)

	// Names are anybody's: none gets out of its comment.
	testkit.Exec(t, as, "create table \"a\nb\" () inherits (messages)")
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitFailed, code)
	for line := range strings.SplitSeq(strings.TrimSpace(stdout), "\n") {
		require.True(t, strings.HasPrefix(line, "--"), line)
	}
	testkit.Exec(t, as, "drop table \"a\nb\"")

	// The feed's own URL says as whom to look.
	t.Setenv("FRESHET_CAPTURE_URL", database)
	code, stdout, _ = runs(t, "doctor")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "\nalter system set max_slot_wal_keep_size", "a superuser may")
}

// doctor says what refuses writes, and the SQL that it prints mends it.
func TestDoctor_readOnly(t *testing.T) {
	database := testkit.Database(t)
	t.Setenv("DATABASE_URL", database)
	require.NoError(t, testkit.SetUp(testkit.Context(t), database))
	for where, set := range map[string]string{
		"the database ":    `alter database %I`,
		"in this database": `alter role postgres in database %I`,
	} {
		testkit.Exec(t, database, `do $$ begin execute format('`+set+` set default_transaction_read_only = on', current_database()); end $$`)
		code, stdout, stderr := runs(t, "doctor")
		require.Equal(t, exitFailed, code, stdout+stderr)
		require.Regexp(t, "(?m)^-- problem: writes as the role postgres are refused: default_transaction_read_only is on for .*"+where, stdout)
		testkit.Exec(t, database, stdout)
		code, stdout, _ = runs(t, "doctor")
		require.Equal(t, exitOK, code, stdout)
	}
	code, stdout, _ := runs(t, "doctor", "--database-url", testkit.WithParam(t, database, "options", "-cdefault_transaction_read_only=on"), "--capture-url", database)
	require.Equal(t, exitFailed, code, stdout)
	require.Contains(t, stdout, "options in the URL")
}

// serving runs `freshet serve args…` until the returned function stops it as
// Ctrl-C does.
func serving(t *testing.T, args ...string) (url string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(testkit.Context(t))
	log, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve", "--addr=127.0.0.1:0", "--admin-addr="}, args...), io.Discard, w)
		_ = w.Close()
	}()
	ready := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			t.Log(lines.Text())
			if _, url, ok := strings.Cut(lines.Text(), "msg=ready url="); ok {
				ready <- url
			}
		}
	}()
	stop = func() int {
		cancel()
		<-done
		return <-code
	}
	select {
	case url = <-ready:
	case <-done:
		require.FailNow(t, "serve ended", "exit code %d", <-code)
	case <-ctx.Done():
		require.FailNow(t, "serve did not get ready")
	}
	return url, stop
}

// dataDir is a folder for a private Postgres.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		// Started by root, Postgres lives elsewhere: a folder of its own.
		if at, err := os.Readlink(filepath.Join(dir, "postgres")); err == nil {
			require.NoError(t, os.RemoveAll(filepath.Dir(at)))
		}
	})
	return dir
}

// Without a database URL: a private Postgres, whose data outlives the program.
func TestServe_privatePostgres(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	call := func(url, method, body string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/messages.v1.MessageService/"+method, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		transport := new(http.Transport)
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	post := func(url, method, body string) string {
		code, text := call(url, method, body)
		require.Equal(t, http.StatusOK, code, text)
		return text
	}
	url, stop := serving(t, "--data-dir", dir)
	post(url, "CreateMessage", `{"parent":"conversations/7","message":{"author":"ada","body":"still here"}}`)

	// F83: it is started again when it dies.
	killed := postmaster(t, dir)
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		code, text := call(url, "ListMessages", `{"parent":"conversations/7"}`)
		return postmaster(t, dir) != killed && code == http.StatusOK && strings.Contains(text, "still here")
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, exitOK, stop())

	url, stop = serving(t, "--data-dir", dir)
	require.Contains(t, post(url, "ListMessages", `{"parent":"conversations/7"}`), "still here")
	require.Equal(t, exitOK, stop())
}
