package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

func settingsFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "freshet.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// Flag before environment before file before default, each told with where it is from.
func TestConfig_precedence(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://ada:hunter2@db/app?sslpassword=hunter2")
	file := settingsFile(t,
		"max-wait: 3s", "max-lag: 4s", "heartbeat: 5s", "host: [a.localhost, 127.0.0.1]", "allowed-origin: https://a.example",
		"migrate: false", "max-streams-per-address: 0", "admin-addr: ''", "log-format: json", "database-url: postgres://file@db/app")
	t.Setenv("FRESHET_MAX_LAG", "6s")
	t.Setenv("FRESHET_HEARTBEAT", "7s")
	t.Setenv("FRESHET_CONFIG", file)
	code, stdout, stderr := runs(t, "config", "check", "--heartbeat=8s")
	require.Equal(t, exitOK, code, stderr)
	for line, from := range map[string]string{
		"max-wait: 3s":                          file + ":1",
		"max-lag: 6s":                           "FRESHET_MAX_LAG",
		"heartbeat: 8s":                         "--heartbeat",
		`host: [a.localhost, 127.0.0.1]`:        file + ":4",
		"allowed-origin: ['https://a.example']": file + ":5",
		"migrate: false":                        file + ":6",
		"max-streams-per-address: 0":            file + ":7",
		`admin-addr: ""`:                        file + ":8",
		"log-format: json":                      file + ":9",
		"throttle: 100ms":                       "default",
		"# grants: unset":                       "default",
		`database-url: postgres://ada:***@db/app?sslpassword=***`: "DATABASE_URL",
	} {
		require.Regexp(t, `(?m)^`+regexp.QuoteMeta(line)+` +# `+regexp.QuoteMeta(from)+`$`, stdout)
	}
	require.NotContains(t, stdout+stderr, "hunter2")
}

// Each mistake is told with file, line, name and what to do; none of them quotes a
// value that may be a secret.
func TestConfig_mistakes(t *testing.T) {
	grants := settingsFile(t, "rules: [{reed: [a]}]")
	for i, tt := range []struct {
		lines []string
		code  int
		want  string
	}{
		{[]string{"", "max_lag: 5s"}, exitUsage, `FILE:2: there is no setting "max_lag"; do you mean max-lag?`},
		{[]string{"no-migrate: true"}, exitUsage, "FILE:1: there is no setting \"no-migrate\"; write `migrate: false`"},
		{[]string{"weather: fine"}, exitUsage, "FILE:1: there is no setting \"weather\"; `freshet config print` lists them"},
		{[]string{"config: other.yaml"}, exitUsage, `FILE:1: there is no setting "config"`},
		{[]string{"max-wait: soon"}, exitUsage, `FILE:1: max-wait: expected duration but got "soon"`},
		{[]string{"max-wait: 5"}, exitUsage, `FILE:1: max-wait: expected duration but got "5"`},
		{[]string{"max-streams: many"}, exitUsage, `FILE:1: max-streams: expected`},
		{[]string{"migrate: perhaps"}, exitUsage, `FILE:1: migrate: bool value must be`},
		{[]string{"audit-reads: some"}, exitUsage, `FILE:1: audit-reads: want one of sample, all, off, not "some"`},
		{[]string{"slot: a", "slot: b"}, exitUsage, `FILE:2: slot is there already, in line 1: leave one of them out`},
		{[]string{"database-url: [hunter2]"}, exitUsage, `FILE:1: database-url: want one value, not a list`},
		{[]string{"slot:"}, exitUsage, `FILE:1: slot: there is no value; leave the line out for the default`},
		{[]string{"database:", "  url: hunter2"}, exitUsage, `FILE:1: there is no setting "database"`},
		{[]string{"slot: {hunter2: 1}"}, exitUsage, `FILE:1: slot: want a value; settings have no groups`},
		{[]string{"host: *"}, exitUsage, `FILE: it is no YAML`},
		{[]string{"host: *all"}, exitUsage, `FILE: YAML takes * for a reference: put it in quotes, "*"`},
		{[]string{"slot: a", "database-url: hunter2: x: y"}, exitUsage, "FILE: it is no YAML, at about line 2: want one `name: value` per line"},
		{[]string{"- hunter2"}, exitUsage, "FILE:1: want one `name: value` per line"},
		{[]string{"slot: a", "---", "slot: b"}, exitUsage, `FILE: there is more than one YAML document in it`},
		{[]string{"", "", "throttle: 1h"}, exitFailed, `FILE:3: --throttle: want`},
		{[]string{"", "addr: 0.0.0.0:80"}, exitFailed, `FILE:2: --addr: address "0.0.0.0:80" can be reached from other machines`},
		{[]string{"host: [localhost, 'x y']"}, exitFailed, `FILE:1: --host`},
		{[]string{"slot: a", "host: [a.example]"}, exitFailed, `FILE:2: --host "a.example": other machines come by that name`},
		{[]string{"", "grants: /does/not/exist"}, exitFailed, `FILE:2: --grants: want a grants file: stat /does/not/exist: no such file`},
		{[]string{"", "grants: /"}, exitFailed, `FILE:2: --grants: want a grants file: / is not a regular file`},
		{[]string{"replica-url: ['']"}, exitFailed, `FILE:1: --replica-url: want a URL for each standby`},
		{[]string{"", "nats-creds: /does/not/exist"}, exitFailed, `FILE:2: --nats-creds: want nothing, where no server of NATS is named`},
		{[]string{"grants: " + grants}, exitFailed, grants + `:1: rule 1: `},
		{[]string{"jwt-keys: /does/not/exist", "jwt-audience: a"}, exitFailed, `/does/not/exist: no such file`},
		{[]string{"jwt-keys: /does/not/exist"}, exitFailed, `--jwt-audience is missing`},
		{[]string{"", "tls-cert: /does/not/exist", "tls-key: /does/not/exist"}, exitFailed, `FILE:2: --tls-cert /does/not/exist`},
		{nil, exitOK, ""},
		{[]string{"# nothing"}, exitOK, ""},
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			file := settingsFile(t, tt.lines...)
			code, _, stderr := runs(t, "config", "check", "--config", file)
			require.Equal(t, tt.code, code, stderr)
			require.Contains(t, stderr, strings.ReplaceAll(tt.want, "FILE", file))
			require.NotContains(t, stderr, "hunter2")
			if tt.code == exitUsage { // serve says the same, before it does anything
				code, _, again := runs(t, "serve", "--config", file)
				require.Equal(t, exitUsage, code)
				require.Contains(t, again, strings.ReplaceAll(tt.want, "FILE", file))
			}
		})
	}
	code, _, stderr := runs(t, "serve", "--config=/does/not/exist")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--config: open /does/not/exist: no such file")

	t.Setenv("FRESHET_THROTTLE", "1h")
	code, _, stderr = runs(t, "config", "check")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "FRESHET_THROTTLE: --throttle: want")
}

// What is no mistake, but may be a slip.
func TestConfig_remarks(t *testing.T) {
	t.Setenv("FRESHET_MAX_WAITT", "3s")
	file := settingsFile(t, "", "database-url: postgres://ada:hunter2@db/app")
	require.NoError(t, os.Chmod(file, 0o644))
	code, stdout, stderr := runs(t, "config", "check", "--config", file)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "nothing reads the variable FRESHET_MAX_WAITT; do you mean max-wait?")
	require.Contains(t, stderr, file+":2: database-url has a password in it")
	require.NotContains(t, stdout+stderr, "hunter2")
}

// What was perhaps forgotten is in the log of serve.
func TestServe_remarks(t *testing.T) {
	t.Setenv("FRESHET_GRANT", "grants.yaml")
	began := "waiting for the database"
	says := func(args ...string) string {
		ctx, cancel := context.WithCancel(testkit.Context(t))
		defer cancel()
		log, w := io.Pipe()
		go func() {
			run(ctx, append([]string{"serve", "--addr=127.0.0.1:0", "--admin-addr=", "--database-url=postgres://x@127.0.0.1:1/x"}, args...), io.Discard, w)
			_ = w.Close()
		}()
		var said strings.Builder
		for lines := bufio.NewScanner(log); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), began) {
				cancel()
			}
		}
		all := said.String()
		require.Contains(t, all, began)
		require.Contains(t, all, "nothing reads the variable FRESHET_GRANT; do you mean grants?")
		return all
	}
	keys := []string{"--jwt-keys=" + keysFile(t), "--jwt-audience=x"}
	require.Contains(t, says(keys...), "everybody whose token is good may read and write everything")
	require.NotContains(t, says(append(keys, "--grants="+openGrantsFile(t))...), "everybody")
	require.Contains(t, says(), "nobody is kept out")
}

// The file that print makes is one, and has every flag in it.
func TestConfig_print(t *testing.T) {
	code, sample, _ := runs(t, "config", "print")
	require.Equal(t, exitOK, code)
	lines := regexp.MustCompile(`(?m)^# ([a-z-]+: .*)$`).FindAllStringSubmatch(sample, -1)
	require.Greater(t, len(lines), 30)
	var set []string
	for _, line := range lines {
		if !strings.HasSuffix(line[1], ": unset") {
			set = append(set, line[1])
		}
	}
	_, want, _ := runs(t, "config", "check")
	code, got, stderr := runs(t, "config", "check", "--config", settingsFile(t, set...))
	require.Equal(t, exitOK, code, stderr)
	values := regexp.MustCompile(` +# .*(?m)$`)
	require.Equal(t, values.ReplaceAllString(want, ""), values.ReplaceAllString(got, ""), "the defaults")
}

// serve goes by the file, and doctor by the same one.
func TestConfig_serve(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	require.NoError(t, os.Unsetenv("DATABASE_URL"))
	file := settingsFile(t, "database-url: "+testkit.Migrated(t), "slot: from_the_file")
	p := startProgram(t, "--config", file)
	status, _ := p.status(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, p.log.String(), "from_the_file")
	code, stdout, stderr := runs(t, "doctor", "--config", file)
	require.Equal(t, exitOK, code, stdout+stderr)
}
