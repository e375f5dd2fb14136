package systemtest_test

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

var rollingRounds = flag.Int("rolling.rounds", 1, "how often TestRolling_programs rolls a program out and back")

// stop ends it as an orchestrator does, and waits.
func (c *child) stop(t testing.TB) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		require.FailNow(t, "the program did not stop within a minute")
	}
}

// administer runs another command of a program.
func administer(t testing.TB, binary string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(testkit.Context(t), binary, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// rolled is what is written while programs are exchanged.
type rolled struct {
	rows   []string          // of messages, one after the other
	before map[string]uint64 // topics, and a position below their commit
	longest,
	byRPC time.Duration // that a statement, and a call, took

	nodes []*exchanged
	reads [3]int // of a row that has just been written, by contract
}

// exchanged is a node whose program is exchanged.
type exchanged struct {
	*child
	clients  *clients     // of it alone
	contract atomic.Int32 // that it serves; 0: it is being exchanged
}

// exchange puts another program in its place.
func (n *exchanged) exchange(t testing.TB, binary string, contract int32) {
	t.Helper()
	n.contract.Store(0)
	n.stop(t)
	n.binary = binary
	n.start(t)
	n.contract.Store(contract)
}

// rolledAuthor and rolledRoom name the topics that row i tells besides.
func rolledAuthor(i int) string { return fmt.Sprint("a", i) }
func rolledRoom(i int) string   { return fmt.Sprint("r", i) }

// statement writes row i, or its reaction; a node of the second contract has served if
// second is true: from then on somebody may follow topics that are that one's alone.
func (r *rolled) statement(ctx context.Context, conn *pgx.Conn, i int, second bool) error {
	for _, s := range []struct {
		sql    string
		args   []any
		topics []string
		also   []string // of the second contract
	}{
		{`insert into messages (id, conversation, author, body) values ($1, '7', $2, 'hi')`, []any{r.rows[i], rolledAuthor(i)},
			[]string{topicOf("7") + "/" + r.rows[i]}, []string{"authors/" + rolledAuthor(i) + "/messages"}},
		{`insert into reactions (conversation) values ($1)`, []any{rolledRoom(i)}, nil, []string{"conversations/" + rolledRoom(i) + "/reactions"}},
	} {
		var before uint64
		if err := conn.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&before); err != nil {
			return err
		}
		began := time.Now()
		if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("%s: %w", s.sql, err)
		}
		r.longest = max(r.longest, time.Since(began))
		if second {
			s.topics = append(s.topics, s.also...)
		}
		for _, topic := range s.topics {
			r.before[topic] = before
		}
	}
	return r.readBack(ctx, conn, "conversations/7/messages/"+r.rows[i])
}

// readBack reads a message that has been written on each node, at-least that.
func (r *rolled) readBack(ctx context.Context, conn *pgx.Conn, name string) error {
	var rev freshet.Revision
	if err := conn.QueryRow(ctx, `select epoch, (pg_current_wal_insert_lsn() - '0/0')::bigint from freshet.incarnation`).Scan(&rev.Epoch, &rev.Position); err != nil {
		return err
	}
	for _, n := range r.nodes {
		contract := n.contract.Load()
		_, err := n.clients.messages.GetMessage(client.AtLeast(ctx, rev), connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
		switch same := n.contract.Load() == contract; {
		case contract == 0 || !same:
		case err != nil:
			return fmt.Errorf("a read at-least %v by contract %d: %w", rev, contract, err)
		default:
			r.reads[contract]++
		}
	}
	return nil
}

// call writes by RPC, again if a node goes just then: a request has its id.
func (r *rolled) call(ctx context.Context, c *clients) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req := connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/8", Message: &messagesv1.Message{Author: "rpc", Body: "hi"}, RequestId: uuid.NewString(),
	})
	for began := time.Now(); ; {
		_, err := c.messages.CreateMessage(ctx, req)
		if err == nil {
			r.byRPC = max(r.byRPC, time.Since(began))
			return nil
		}
		if !unanswered(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Two programs of two contracts, which differ by a template, a table, and what that
// emits, beside each other, rolled out node by node and back, while SQL and RPC write.
// No writer fails; whatever was written is told to all, also topics that only the other
// program's contract has, and is there when it is read at-least its position, by programs
// of either. (`make rolling` does it more often.)
func TestRolling_programs(t *testing.T) {
	t.Parallel()
	one, two, ctx := program(t), secondProgram(t), testkit.Context(t)
	database := testkit.NewServer(t, map[string]string{"fsync": "off"}).Database(t)
	administer(t, one, "migrate", "up", "--database-url", database)
	testkit.Exec(t, database, secondTable)
	// A node that has just begun reads what it has missed; on a busy machine it may be
	// longer than 2 s behind, which is a refusal that clients repeat, and no row that isn't there.
	nodes := startNodes(t, one, database, 2, "--drain=1s", "--shed-streams", "--heartbeat=500ms", "--max-wait=30s", "--max-lag=30s")
	conn := testkit.Conn(t, database)

	const perTurn = 40
	turns := 4**rollingRounds + 2
	r := &rolled{before: map[string]uint64{}}
	for _, n := range nodes {
		r.nodes = append(r.nodes, &exchanged{child: n, clients: newClients(t, n.url)})
		r.nodes[len(r.nodes)-1].contract.Store(1)
	}
	topics := []string{"messages", topicOf("7")}
	for i := range perTurn * turns {
		r.rows = append(r.rows, uuid.NewString())
		topics = append(topics, topicOf("7")+"/"+r.rows[i], "authors/"+rolledAuthor(i)+"/messages", "conversations/"+rolledRoom(i)+"/reactions")
	}
	var listeners []*listener
	var mirrors []*mirror
	for i := range 4 {
		order := slices.Clone(nodes)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		c := ofNodes(t, order)
		listeners = append(listeners, c.listen(t, topics, nil))
		mirrors = append(mirrors, c.mirror(t, fmt.Sprint("mirror ", i), "7"))
	}
	for _, l := range listeners {
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	}
	var second atomic.Bool
	due, next := make(chan struct{}, len(r.rows)), 0
	w := write(t, ctx, database, func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if next == 0 {
			if _, err := conn.Exec(ctx, `set statement_timeout = '5s'`); err != nil {
				return false, err
			}
		}
		select {
		case <-due:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		err := r.statement(ctx, conn, next, second.Load())
		next++
		return next < len(r.rows), err
	})
	caller := ofNodes(t, nodes)
	calls := write(t, ctx, database, func(ctx context.Context, _ *pgx.Conn) (bool, error) { return true, r.call(ctx, caller) })

	turn := func() {
		for range perTurn {
			due <- struct{}{}
		}
		w.more(t, ctx, perTurn/2)
	}
	turn()
	for range *rollingRounds {
		administer(t, two, "migrate", "up", "--set-up", "--database-url", database)
		for _, n := range r.nodes {
			turn()
			n.exchange(t, two, 2)
			second.Store(true)
		}
		for _, n := range r.nodes {
			turn()
			n.exchange(t, one, 1)
		}
	}
	turn()
	w.end(t, ctx)
	require.NoError(t, calls.stop(), "an RPC that writes")

	for i, l := range listeners {
		for topic, before := range r.before {
			l.await(t, ctx, fmt.Sprintf("client %d: %s", i, topic), func() bool { return l.told[topic].Position > before })
		}
		require.Empty(t, l.now().resets)
	}
	requireConverged(t, ctx, conn, mirrors)
	var n int64
	require.NoError(t, conn.QueryRow(ctx, `select count(*) from messages where conversation = '8'`).Scan(&n))
	require.Equal(t, calls.written.Load(), n, "each call once")
	require.Positive(t, r.reads[1])
	require.Positive(t, r.reads[2])
	require.Contains(t, administer(t, one, "doctor", "--leftovers", "--database-url", database), "reactions", "what is left of the other")
	t.Logf("%d rows and %d calls, of which none took longer than %v and %v; read at once by the first contract %d, by the second %d", len(r.rows), n, r.longest, r.byRPC, r.reads[1], r.reads[2])
}
