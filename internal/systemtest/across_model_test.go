package systemtest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/intercept"
)

// tally is a conversation with one message, whose body is how often it was
// written. Writes come one after the other, so their commits are in this order.
type tally struct {
	name  string // of the message
	write sync.Mutex

	mu       sync.Mutex // guards all below
	returned int        // the highest that is committed for sure
	needs    []freshet.Revision
	told     freshet.Revision // by when all of it must have been told
	kept     shown            // an answer with its entity tag
}

// shown is an answer to a read.
type shown struct {
	how          string
	asked, stamp freshet.Revision
	number       int
	tag          string
}

// across is a model of what several nodes on one database promise together: every
// operation goes to a node that is chosen at random.
type across struct {
	clients  []*clients
	gets     []messagesv1connect.MessageServiceClient
	counters []*tally

	mu      sync.Mutex
	answers map[int][]shown // of each counter
	count   map[string]int
}

var acrossRounds = flag.Int("across.rounds", 60, "writes of each of six workers in TestAcross_G1_model")

func conversationOf(i int) string { return fmt.Sprint("n", i) }

func newAcross(t testing.TB, ctx context.Context, nodes []*child, counters int) *across {
	t.Helper()
	m := &across{answers: map[int][]shown{}, count: map[string]int{}}
	for _, n := range nodes {
		m.clients = append(m.clients, newClients(t, n.url))
		m.gets = append(m.gets, messagesv1connect.NewMessageServiceClient(transport(t, false), n.url, connect.WithHTTPGet(),
			connect.WithInterceptors(client.NewInterceptor())))
	}
	for i := range counters {
		name, stamp, err := m.clients[0].create(ctx, conversationOf(i), "0")
		require.NoError(t, err)
		m.counters = append(m.counters, &tally{name: name, needs: []freshet.Revision{stamp.Revision}})
	}
	return m
}

// written writes once more, by the RPC of some node or by SQL, and returns what was
// written and from which revision on it has to be seen.
func (m *across) written(ctx context.Context, conn *pgx.Conn, i int) (int, freshet.Revision, error) {
	c := m.counters[i]
	c.write.Lock()
	defer c.write.Unlock()
	n := len(c.needs)
	var need freshet.Revision
	exact := rand.IntN(3) > 0 // what SQL returns is only a bound
	if !exact {
		if _, err := conn.Exec(ctx, `update messages set body = $1 where conversation = $2`, strconv.Itoa(n), conversationOf(i)); err != nil {
			return 0, need, err
		}
		if err := conn.QueryRow(ctx, `select epoch, (pg_current_wal_insert_lsn() - '0/0')::bigint from freshet.incarnation`).
			Scan(&need.Epoch, &need.Position); err != nil {
			return 0, need, err
		}
		m.counts("write by SQL")
	} else {
		var stamp client.Stamp
		_, err := m.clients[rand.IntN(len(m.clients))].messages.UpdateMessage(client.CaptureStamp(ctx, &stamp),
			connect.NewRequest(&messagesv1.UpdateMessageRequest{Message: &messagesv1.Message{Name: c.name, Author: "rpc", Body: strconv.Itoa(n)}}))
		if err != nil {
			return 0, need, err
		}
		if need = stamp.Revision; need.IsZero() {
			return 0, need, errors.New("an answer to a mutation has no stamp")
		}
		m.counts("write by RPC")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.needs, c.returned = append(c.needs, need), n
	if exact {
		c.told = need
	}
	return n, need, nil
}

// read reads at some node, and returns the number in the answer.
func (m *across) read(ctx context.Context, i int, how string, atLeast freshet.Revision) (shown, error) {
	c, node := m.counters[i], rand.IntN(len(m.clients))
	answer := shown{how: how, asked: atLeast}
	ctx = client.AtLeast(client.Strong(ctx), atLeast)
	req := connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/" + conversationOf(i), PageSize: 1000})
	reader := m.clients[node].messages
	var kept shown
	if rand.IntN(2) == 0 {
		reader = m.gets[node]
		c.mu.Lock()
		kept = c.kept
		c.mu.Unlock()
		if kept.tag != "" {
			req.Header().Set("If-None-Match", kept.tag)
		}
	}
	resp, err := reader.ListMessages(ctx, req)
	var unchanged *connect.Error
	var header http.Header
	switch {
	case err == nil:
		header = resp.Header()
		if len(resp.Msg.GetMessages()) != 1 {
			return answer, fmt.Errorf("%s: %d messages", how, len(resp.Msg.GetMessages()))
		}
		if answer.number, err = strconv.Atoi(resp.Msg.GetMessages()[0].GetBody()); err != nil {
			return answer, err
		}
		answer.tag = header.Get("Etag")
	case connect.IsNotModifiedError(err) && errors.As(err, &unchanged):
		m.counts("answer 304")
		header = unchanged.Meta()
		answer.how, answer.number, answer.tag = how+", not modified", kept.number, kept.tag
	default:
		return answer, fmt.Errorf("%s, at-least %v, at node %d: %w", how, atLeast, node, err)
	}
	if answer.stamp, err = freshet.ParseRevision(header.Get(intercept.HeaderRevision)); err != nil {
		return answer, err
	}
	m.counts("answer")
	m.mu.Lock()
	m.answers[i] = append(m.answers[i], answer)
	m.mu.Unlock()
	if answer.tag != "" {
		c.mu.Lock()
		c.kept = answer
		c.mu.Unlock()
	}
	return answer, nil
}

func (m *across) counts(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count[what]++
}

// resumed opens a stream at some node where answers of other nodes left off, and
// waits until it has told of all that they lack (G2).
func (m *across) resumed(ctx context.Context) error {
	since, lacking := map[string]freshet.Revision{}, map[string]bool{}
	var topics []string
	var lowest freshet.Revision
	for i, c := range m.counters {
		topic := topicOf(conversationOf(i))
		topics = append(topics, topic)
		m.mu.Lock()
		answers := m.answers[i]
		m.mu.Unlock()
		if len(answers) == 0 {
			continue
		}
		held := answers[len(answers)-1-rand.IntN(min(20, len(answers)))]
		since[topic] = held.stamp
		if lowest.IsZero() || held.stamp.Less(lowest) {
			lowest = held.stamp
		}
		c.mu.Lock()
		lacking[topic] = held.number < c.returned
		c.mu.Unlock()
	}
	option := client.WithSinceByTopic(since)
	if len(since) == len(topics) && rand.IntN(2) == 0 {
		option = client.WithSince(lowest)
	}
	ready := false
	err := m.clients[rand.IntN(len(m.clients))].freshet.Stream(ctx, topics, func(e client.Event) error {
		switch e := e.(type) {
		case client.Invalidate:
			for _, topic := range e.Topics {
				delete(lacking, topic)
			}
		case client.Reset:
			return fmt.Errorf("a reset to %v, since %v", e.Revision, since)
		case client.Disconnected:
			return e.Err
		case client.Ready:
			ready = true
		}
		for _, lacks := range lacking {
			if lacks {
				return nil
			}
		}
		if ready {
			return errDone
		}
		return nil
	}, option, client.WithThrottle(0))
	if errors.Is(err, errDone) {
		m.counts("stream resumed elsewhere")
		return nil
	}
	return fmt.Errorf("a stream, since %v, has not told of %v: %w", since, lacking, err)
}

var errDone = errors.New("all has been told")

// judge holds every answer against every write: it has what it was asked for, and
// all that is at or below its stamp (G6); so what has been told is in each answer
// that was asked for at-least the notice's revision, whoever told it and whoever
// answered (G1).
func (m *across) judge(t testing.TB) {
	t.Helper()
	for i, c := range m.counters {
		for _, a := range m.answers[i] {
			require.False(t, a.stamp.Less(a.asked), "%s: %+v", c.name, a)
			for n := a.number + 1; n < len(c.needs); n++ {
				require.True(t, a.stamp.Less(c.needs[n]), "%s: an answer lacks what was written as %d at or below %v: %+v", c.name, n, c.needs[n], a)
			}
		}
	}
}

// G1, G2, G5, G6 across nodes: whoever tells, whoever is written to and whoever is
// asked are three programs, chosen at random for each operation, for reads at-least
// and strong ones, over POST and GET with entity tags that another node has given,
// and for streams that go on from another node's stamps.
func TestAcross_G1_model(t *testing.T) {
	t.Parallel()
	binary := program(t)
	ctx, cancel := context.WithCancel(testkit.Context(t))
	defer cancel()
	database := testkit.Migrated(t)
	// A pause of the machine is not to count as a node that lags.
	nodes := startNodes(t, binary, database, 3, "--max-wait=30s", "--max-lag=30s")
	const counters, workers = 8, 6
	m := newAcross(t, ctx, nodes, counters)
	var topics []string
	number := map[string]int{}
	for i := range counters {
		topics = append(topics, topicOf(conversationOf(i)))
		number[topics[i]] = i
	}
	failed := make(chan error, 1)
	fail := func(err error) {
		if err != nil && ctx.Err() == nil {
			select {
			case failed <- err:
				cancel()
			default:
			}
		}
	}
	var listeners []*listener
	for _, c := range m.clients {
		listeners = append(listeners, c.listen(t, topics, func(ctx context.Context, e client.Invalidate) {
			for _, topic := range e.Topics {
				_, err := m.read(ctx, number[topic], "read after a notice", e.Revision)
				fail(err)
			}
		}, client.WithThrottle(0)))
	}
	for _, l := range listeners {
		l.await(t, ctx, "ready", func() bool { return len(l.ready) > 0 })
	}
	var group errgroup.Group
	for range workers {
		conn := testkit.Conn(t, database)
		group.Go(func() (err error) {
			defer func() { fail(err) }()
			for round := range *acrossRounds {
				i := rand.IntN(counters)
				n, need, err := m.written(ctx, conn, i)
				if err != nil {
					return err
				}
				how, atLeast := "read after an own write", need
				if rand.IntN(3) == 0 {
					how, atLeast = "strong read", freshet.Revision{}
				}
				answer, err := m.read(ctx, i, how, atLeast)
				if err != nil {
					return err
				}
				if answer.number < n {
					return fmt.Errorf("%d was written at %v, and %+v", n, need, answer)
				}
				if round%10 == 0 {
					if err := m.resumed(ctx); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	err := group.Wait()
	select {
	case err = <-failed:
	default:
	}
	require.NoError(t, err)
	for j, l := range listeners {
		l.await(t, ctx, "all that was written", func() bool {
			for i, c := range m.counters {
				if l.told[topics[i]].Less(c.told) {
					return false
				}
			}
			return true
		})
		heard := l.now()
		require.Empty(t, heard.resets)
		require.Len(t, heard.ready, 1, "node %d", j)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.judge(t)
	require.NotZero(t, m.count["answer 304"])
	t.Logf("%v", m.count)
}
