package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/seldom"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// secretive are what must be in no log: planted wherever a client or an operator
// gives us something that is for nobody else.
type secretive struct{ token, cookie, password, body string }

var planted = secretive{
	token:    "eyJhbGciOiJFZERTQSJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"plantedtoken"}`)) + ".cGxhbnRlZHRva2Vu",
	cookie:   "eyJhbGciOiJFZERTQSJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"plantedcookie"}`)) + ".cGxhbnRlZGNvb2tpZQ",
	password: "plantedpassword",
	body:     "plantedbody",
}

func (s secretive) notIn(t *testing.T, log string) {
	t.Helper()
	for _, secret := range []string{s.token, s.cookie, s.password, s.body, "plantedtoken", "plantedcookie", strings.Split(s.token, ".")[1], strings.Split(s.cookie, ".")[1]} {
		require.NotContains(t, log, secret)
	}
}

// storm calls the server from several sides until told to stop, with whatever has
// it log something, and returns how many calls failed.
func storm(t *testing.T, p *programUnderTest, future string, until time.Time) (failed int) {
	t.Helper()
	var mu sync.Mutex // guards failed
	var callers sync.WaitGroup
	send := func(client *http.Client, method, path, body string, headers ...string) {
		req, err := http.NewRequestWithContext(testkit.Context(t), method, p.url+path, strings.NewReader(body))
		if !assert.NoError(t, err) {
			return
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 100)) // a stream has no end
			_ = resp.Body.Close()
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			mu.Lock()
			failed++
			mu.Unlock()
		}
	}
	for range 4 {
		callers.Go(func() {
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 3 * time.Second}
			const service = "/messages.v1.MessageService/"
			message := `{"parent":"conversations/1","message":{"author":"ada","body":"` + planted.body + `"}}`
			for time.Now().Before(until) {
				send(client, http.MethodPost, service+"CreateMessage", message)
				send(client, http.MethodPost, service+"CreateMessage", message[:len(message)-2])
				send(client, http.MethodPost, service+"CreateMessage", message, "Authorization", "Bearer "+planted.token)
				send(client, http.MethodPost, service+"CreateMessage", message, "Cookie", "session="+planted.cookie)
				send(client, http.MethodGet, "/events?topic=messages&access_token="+planted.token, "")
				send(client, http.MethodGet, "/events?topic=messages", "", "Last-Event-ID", future)
			}
		})
	}
	callers.Wait()
	return failed
}

// In an outage, and under whoever repeats what is logged, the log stays short; and
// at its most talkative level it has no token, password or message in it.
func TestServe_logs(t *testing.T) {
	t.Parallel()
	database := testkit.Migrated(t)
	// Postgres puts the whole row into what it says about this.
	testkit.Exec(t, database, `alter table messages add constraint planted check (body <> '`+planted.body+`')`)
	proxy := testkit.NewProxy(t, database)
	through, err := url.Parse(proxy.URL())
	require.NoError(t, err)
	through.User = url.UserPassword(through.User.Username(), planted.password)
	for _, level := range []string{"info", "debug"} {
		t.Run(level, func(t *testing.T) {
			p := startProgram(t, "--config", settingsFile(t, "database-url: "+through.String()), "--log-level="+level,
				"--jwt-keys="+keysFile(t), "--jwt-audience=freshet", "--auth-anonymous", "--auth-cookie=session", "--slot=logs_"+level)
			conn, r, err := openStream(testkit.Context(t), strings.TrimPrefix(p.url, "http://"))
			require.NoError(t, err)
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			_ = conn.Close()
			revision := regexp.MustCompile(`([0-9a-f]+)-[0-9a-f]{16}`).FindStringSubmatch(line)
			require.NotNil(t, revision, line)
			future := revision[1] + "-7fffffffffffffff"

			failed := storm(t, p, future, time.Now().Add(500*time.Millisecond))
			proxy.Refuse()
			failed += storm(t, p, future, time.Now().Add(2*time.Second))
			proxy.Resume()
			require.Eventually(t, func() bool {
				status, _ := p.status(t, "/readyz")
				return status == http.StatusOK
			}, 30*time.Second, 10*time.Millisecond)
			const enough = 20 * seldom.Burst
			for more := true; more; more = failed <= enough { // on a slow machine
				failed += storm(t, p, future, time.Now().Add(500*time.Millisecond))
			}
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			<-p.done

			log := p.log.String()
			planted.notIn(t, log)
			require.NotContains(t, log, strings.ToUpper(planted.body))
			lines := map[string]int{}
			most := 0
			for _, match := range regexp.MustCompile(`level=(?:INFO|WARN|ERROR) msg=("(?:[^"\\]|\\.)*"|\S+)`).FindAllStringSubmatch(log, -1) {
				lines[match[1]]++
				most = max(most, lines[match[1]])
			}
			t.Logf("%d calls failed; lines of the log: %v", failed, lines)
			require.LessOrEqual(t, most, seldom.Burst+5)
		})
	}
}
