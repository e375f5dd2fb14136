package systemtest_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// nodesOfTheGuide are the two commands of docs/deploy.md, "Several nodes".
func nodesOfTheGuide(t *testing.T) (first, second string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs/deploy.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n## Several nodes\n")
	require.True(t, found)
	commands := regexp.MustCompile(`(?m)^freshet serve .*$`).FindAllString(rest, 2)
	require.Len(t, commands, 2)
	return commands[0], commands[1]
}

// The second node costs an operator one more command: the same flags, another port. With
// the lines that docs/deploy.md has for it, HAProxy and nginx lead to both: whichever of
// the two is killed, the other answers, with what was written before.
func TestSeveralNodes_oneMoreCommand(t *testing.T) {
	t.Parallel()
	first, second := nodesOfTheGuide(t)
	more, same := strings.CutPrefix(second, first)
	require.True(t, same, "the same flags")
	require.Equal(t, " --addr 127.0.0.1:8081 --admin-addr 127.0.0.1:18081", more, "other ports, those of freshet@8081.service")
	told := []string{"9090", "18081"}

	binary, database := program(t), testkit.Migrated(t)
	config := filepath.Join(t.TempDir(), "freshet.yaml")
	require.NoError(t, os.WriteFile(config, []byte("database-url: "+database+"\nshed-streams: true\n"), 0o600))
	nodes := make([]*child, 0, 2)
	addrs, admins := make([]string, 0, 2), make([]string, 0, 2)
	for _, command := range []string{first + " --addr 127.0.0.1:8080 --admin-addr 127.0.0.1:9090", second} {
		addr, admin := live.FreeAddr(t), live.FreeAddr(t)
		c := &child{binary: binary, url: "http://" + addr, log: func(line string) { logger(t).Info("freshet: " + line) }}
		c.args = strings.Fields(regexp.MustCompile(`--admin-addr \S+`).ReplaceAllString(
			regexp.MustCompile(`--addr \S+`).ReplaceAllString(command, "--addr "+addr), "--admin-addr "+admin))[1:]
		for i, arg := range c.args {
			if arg == "/etc/freshet/freshet.yaml" {
				c.args[i] = config
			}
		}
		c.start(t)
		t.Cleanup(c.kill)
		nodes, addrs, admins = append(nodes, c), append(addrs, addr), append(admins, admin)
	}

	fronts := map[string]string{}
	for _, name := range []string{"haproxy", "nginx"} {
		config := severalBehind(t, name)
		config = strings.ReplaceAll(config, "127.0.0.1:8081", addrs[1])
		for i, admin := range admins { // HAProxy's checks go where the commands say
			_, port, err := net.SplitHostPort(admin)
			require.NoError(t, err)
			if name == "haproxy" {
				require.Contains(t, config, " port "+told[i]+"\n")
			}
			config = strings.ReplaceAll(config, " port "+told[i]+"\n", " port "+port+"\n")
		}
		fronts[name], _ = testkit.NewWebProxy(t, name, addrs[0], config)
		created := call(t, fronts[name], "CreateMessage", `{"parent": "conversations/`+name+`", "message": {"author": "ada", "body": "for all"}}`)
		require.Contains(t, created, "for all")
	}
	for i, n := range nodes {
		n.kill()
		for name, front := range fronts {
			require.Contains(t, call(t, front, "ListMessages", `{"parent": "conversations/`+name+`"}`), "for all", "node %d is gone", i+1)
		}
		n.start(t)
	}
}

// severalBehind is the configuration of docs/operations.md with the servers of
// docs/deploy.md.
func severalBehind(t *testing.T, name string) string {
	t.Helper()
	config, servers := testkit.ConfigIn(t, "docs/operations.md", name), testkit.ConfigIn(t, "docs/deploy.md", name)
	if name == "nginx" {
		rest, found := strings.CutPrefix(config[strings.Index(config, "upstream freshet {"):], "upstream freshet {")
		require.True(t, found)
		_, rest, found = strings.Cut(rest, "}\n")
		require.True(t, found)
		return servers + rest
	}
	config, _, found := strings.Cut(config, "\nbackend freshet\n")
	require.True(t, found)
	return config + "\n" + servers
}

// call makes one by JSON, again until it is answered: a balancer may not know yet that a
// node has gone.
func call(t *testing.T, front, method, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(testkit.Context(t), time.Minute)
	defer cancel()
	h := transport(t, false)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+front+"/messages.v1.MessageService/"+method, bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := h.Do(req)
		if err == nil {
			var answer []byte
			answer, err = io.ReadAll(resp.Body)
			require.NoError(t, resp.Body.Close())
			if err == nil && resp.StatusCode == http.StatusOK {
				return string(answer)
			}
		}
		require.NoError(t, ctx.Err(), "%s: %v", method, err)
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
