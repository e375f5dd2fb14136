package systemtest_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// walkthrough is what docs/deploy.md has somebody type, by the bold words before it.
func walkthrough(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs/deploy.md"))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\n## One machine")
	rest, _, found := strings.Cut(rest, "\n## Other proxies")
	require.True(t, found)
	steps, step := map[string]string{}, ""
	for i, part := range strings.Split(rest, "```") {
		if i%2 == 1 {
			steps[step] = strings.TrimPrefix(part, "sh\n")
			continue
		}
		if bold := regexp.MustCompile(`(?m)^\*\*(.*?)[.,]?\*\*|^(By [^ :,]*( page)?)`).FindStringSubmatch(part); bold != nil {
			step = bold[1] + bold[2]
		}
	}
	return steps
}

// What docs/deploy.md has somebody type, from the issuer on, ends with two accounts
// that see different things, by curl and by the page's cookie, through nginx with TLS.
// (What comes before, packages, build and Postgres, is another machine's; gRPC is
// TestProxy_F51_withTLS'.)
func TestDeploy_walkthrough(t *testing.T) {
	t.Parallel()
	steps := walkthrough(t)
	binary := program(t)
	etc, err := os.MkdirTemp("", "freshet-etc-") // nginx' workers, of another user, read what is below
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(etc) })
	require.NoError(t, os.Chmod(etc, 0o755))                                   //nolint:gosec // as said
	require.NoError(t, os.MkdirAll(filepath.Join(etc, "freshet"), 0o755))      //nolint:gosec // nginx reads it
	require.NoError(t, os.MkdirAll(filepath.Join(etc, "nginx/conf.d"), 0o755)) //nolint:gosec // nginx reads it
	enter := func(port string, names ...string) string {
		t.Helper()
		var script strings.Builder
		script.WriteString("set -euo pipefail\nada=$(cat $HOME/ada || true) bob=$(cat $HOME/bob || true)\n")
		for _, name := range names {
			require.NotEmpty(t, steps[name], name)
			script.WriteString(steps[name])
		}
		script.WriteString("printf %s \"$ada\" >$HOME/ada; printf %s \"$bob\" >$HOME/bob\n")
		text := strings.NewReplacer(
			"echo '127.0.0.1 app.example.com' >> /etc/hosts\n", "",
			"cp deploy/proxy/nginx.conf /etc/nginx/conf.d/freshet.conf\n", "", // the test's proxy has it
			"nginx -t\nsystemctl restart nginx\n", "", // and is started below
			"-m 640 -g www-data", "-m 644", // nginx' user here is another
			"/etc/", etc+"/", "/tmp/", etc+"/",
			"https://app.example.com/", "https://app.example.com:"+port+"/",
		).Replace(script.String())
		bash := exec.CommandContext(testkit.Context(t), "bash", "-c", text) //nolint:gosec // the documentation's
		bash.Dir = testkit.Root()
		bash.Env = append(os.Environ(), "HOME="+etc, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
		bash.WaitDelay = time.Second // what it started may hold the pipes
		errors := new(strings.Builder)
		bash.Stderr = errors
		out, err := bash.Output()
		require.NoError(t, err, "%s\n%s", out, errors)
		return string(out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(etc, "ada"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(etc, "bob"), nil, 0o600))
	require.Contains(t, enter("", "An issuer", "Settings and grants"), "granted")
	main := filepath.Join(etc, "nginx/nginx.conf")
	require.NoError(t, os.WriteFile(main, []byte("worker_processes auto;\nevents {\n\tworker_connections 768;\n}\n"), 0o600)) // as Debian has it
	enter("", "TLS and nginx", "Signing in")
	settings, err := os.ReadFile(main) //nolint:gosec // the test's
	require.NoError(t, err)
	require.Equal(t, "worker_processes auto;\nworker_rlimit_nofile 65536;\nevents {\n\tworker_connections 32768;\n}\n", string(settings))

	server := serveChild(t, binary, testkit.Migrated(t), "walkthrough", "--config", filepath.Join(etc, "freshet/freshet.yaml"))
	addr, _ := testkit.NewTLSProxy(t, "nginx", strings.TrimPrefix(server.url, "http://"), etc)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(etc, ".curlrc"), []byte("resolve = \"app.example.com:"+port+":127.0.0.1\"\nmax-time = 10\n"), 0o600))

	codes := func(out string) []string { return regexp.MustCompile(`(?m)^\d+$`).FindAllString(out, -1) }
	out := enter(port, "See that it holds")
	require.Equal(t, []string{"200", "200", "403", "200", "401", "200", "403"}, codes(out), out)
	require.Equal(t, 2, strings.Count(out, "for ada alone"), "once written, once read: %s", out)
	require.Contains(t, out, "event: ready")
	// A wrong password; sign-in, page, call.
	out = enter(port, "See that it holds", "By the page")
	require.Equal(t, []string{"401", "302", "200", "200", "302", "200", "403"}, codes(out)[7:], out)
}
