package systemtest_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// fault is one thing that goes wrong, and is right again when it returns.
type fault struct {
	name   string
	weight int
	run    func(*soak)
}

const programKilled = "program killed"

var faults = []fault{
	{programKilled, 1, func(s *soak) {
		s.program.kill()
		s.pause(0, time.Second)
		s.program.start(s.t)
	}},
	{"Postgres restarted", 2, func(s *soak) { s.postgres.Restart(s.t) }},
	{"Postgres crashed", 2, func(s *soak) {
		s.postgres.Kill()
		s.postgres.Restart(s.t)
	}},
	{"clients cut off", 4, func(s *soak) { s.front.Cut() }},
	{"clients refused", 2, func(s *soak) { s.front.Refuse(); s.pause(0, 2*time.Second); s.front.Resume() }},
	{"pool cut off", 3, func(s *soak) { s.pool.Cut() }},
	{"capture cut off", 4, func(s *soak) { s.capture.Cut() }},
	{"capture frozen", 3, func(s *soak) { s.capture.Pause(); s.pause(0, 6*time.Second); s.capture.Resume() }},
	{"clients frozen", 2, func(s *soak) { s.front.Pause(); s.pause(0, 4*time.Second); s.front.Resume() }},
	{"network slow", 2, func(s *soak) {
		s.capture.Delay(50 * time.Millisecond)
		s.pool.Delay(20 * time.Millisecond)
		s.pause(0, 3*time.Second)
		s.capture.Delay(0)
		s.pool.Delay(0)
	}},
	{"commits held", 3, func(s *soak) {
		s.configure("synchronous_standby_names", "absent")
		s.pause(0, 3*time.Second)
		s.configure("synchronous_standby_names", "")
	}},
	{"long transaction", 3, (*soak).longTransaction},
	{"slow reader", 3, (*soak).slowReader},
	{"bulk update", 2, func(s *soak) {
		s.exec(`update messages set body = body || '.' where conversation like 'c%' and length(body) < 1000`)
	}},
	{"conversation emptied", 1, func(s *soak) {
		s.exec(fmt.Sprintf(`delete from messages where conversation = 'c%d'`, s.rng.IntN(soakConversations)))
	}},
	{"table rewritten", 1, func(s *soak) { s.exec(`alter table messages alter column author type text collate "C"`) }},
}

// fault lets one of them happen: each once, in any order, then by weight.
func (s *soak) fault() {
	s.t.Helper()
	if len(s.deck) == 0 {
		for i, f := range faults {
			weight := f.weight
			if s.history == nil {
				weight = 1
			}
			if f.name == programKilled && !*soakKills {
				weight = 0
			}
			for range weight {
				s.deck = append(s.deck, i)
			}
		}
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	f := faults[s.deck[0]]
	s.deck = s.deck[1:]
	s.faults[f.name]++
	s.history = append(s.history, f.name)
	f.run(s)
}

// pause lets a random time pass: what a soak is made of, not a wait for
// anything.
func (s *soak) pause(from, to time.Duration) {
	select {
	case <-time.After(from + time.Duration(s.rng.Int64N(int64(to-from)))):
	case <-s.ctx.Done():
	}
}

// exec writes; its commit doesn't wait for a standby.
func (s *soak) exec(sql string) {
	s.t.Helper()
	testkit.Exec(s.t, testkit.WithParam(s.t, s.database, "synchronous_commit", "local"), sql)
}

func (s *soak) configure(setting, value string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.database)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(s.ctx) }()
	for _, sql := range []string{fmt.Sprintf(`alter system set %s = '%s'`, setting, value), `select pg_reload_conf()`} {
		_, err = conn.Exec(s.ctx, sql)
		require.NoError(s.t, err)
	}
}

// longTransaction writes early and commits late, or not at all.
func (s *soak) longTransaction() {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.database)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(s.ctx) }()
	end := []string{"commit", "rollback"}[s.rng.IntN(2)]
	_, err = conn.Exec(s.ctx, fmt.Sprintf(`begin; insert into messages (conversation, author, body)
		values ('c%d', 'sql', 'from a long transaction')`, s.rng.IntN(soakConversations)))
	require.NoError(s.t, err)
	s.pause(time.Second, 4*time.Second)
	_, err = conn.Exec(s.ctx, end)
	require.NoError(s.t, err)
}

// slowReader subscribes and doesn't read.
func (s *soak) slowReader() {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.program.url, "http://"))
	require.NoError(s.t, err)
	defer conn.Close()
	require.NoError(s.t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = fmt.Fprintf(conn, "GET /events?topic=%s&topic=messages&throttle=0 HTTP/1.1\r\nHost: freshet\r\n\r\n", topicOf("c0"))
	require.NoError(s.t, err)
	s.pause(time.Second, 4*time.Second)
}

// countingClient is a client whose ListMessages is another.
type countingClient struct {
	messagesv1connect.MessageServiceClient
	list func(context.Context, *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error)
}

func (c countingClient) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	return c.list(ctx, req)
}
