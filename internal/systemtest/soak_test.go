package systemtest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

var (
	soakDuration = flag.Duration("soak.duration", time.Minute, "how long faults go on")
	soakSeed     = flag.Uint64("soak.seed", 0, "which faults; 0: by the clock")
	soakKills    = flag.Bool("soak.kills", true, "the program is killed too; without, its memory is that of one long life")
)

const (
	soakConversations = 4
	soakRound         = 20 * time.Second // then writers rest, and everybody is compared
	soakPatience      = 2 * time.Minute  // for what must happen after a round
)

// soak is the state of TestSoak. The test's goroutine owns it, but for what is
// atomic or guarded.
type soak struct {
	t        *testing.T
	ctx      context.Context
	rng      *rand.Rand
	postgres *testkit.Server
	database string
	program  *child

	front, pool, capture *testkit.Proxy // to the program, and from it to Postgres

	mirrors   []*mirror
	listeners []*listener
	resting   sync.RWMutex // held for reading by a write under way

	deck    []int // faults to come
	faults  map[string]int
	history []string
	rss     []int // kilobytes, of programs that have been up for a while

	slowest time.Duration // comparison, and the fault before it
	before  string

	sql, rpc, failedWrites, readBack, fetches, same, failedFetches atomic.Int64

	mu        sync.Mutex
	log       []string // the program's last lines
	violation error    // the first that a writer saw
}

// G2–G5: random faults from a seed, while writers write by SQL and by RPC and
// clients follow the client rule. Whenever the writers rest, every client comes
// to hold what Postgres holds; own writes are read back; ids never go back.
//
//	make soak DURATION=30m SEED=7
func TestSoak(t *testing.T) {
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("soak: %v with -soak.seed=%d", *soakDuration, seed)
	s := newSoak(t, seed)
	began := time.Now()
	printed := began
	for time.Since(began) < *soakDuration {
		round := time.Now()
		for time.Since(round) < min(soakRound, *soakDuration) {
			s.fault()
			s.pause(100*time.Millisecond, 1500*time.Millisecond)
			if s.sample(); time.Since(printed) >= 10*time.Second {
				printed = time.Now()
				t.Logf("soak: %v: %s", time.Since(began).Round(time.Second), s.figures())
			}
		}
		s.compare()
	}
	t.Log("soak: done\n" + s.table())
}

func newSoak(t *testing.T, seed uint64) *soak {
	ctx, cancel := context.WithTimeout(context.Background(), *soakDuration+10*time.Minute)
	t.Cleanup(cancel)
	s := &soak{t: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 1)), faults: map[string]int{}}
	// What a crash of the machine would lose is not what is tested.
	s.postgres = testkit.NewServer(t, map[string]string{"fsync": "off"})
	s.database = s.postgres.Migrated(t)
	s.pool, s.capture = testkit.NewProxy(t, s.database), testkit.NewProxy(t, s.database)
	s.program = serveChild(t, program(t), s.pool.URL(), "soak", "--capture-url", s.capture.URL(), "--heartbeat=1s", "--max-conns=8", "--max-lag=2s")
	s.program.log = s.keep
	s.front = testkit.NewProxy(t, strings.TrimPrefix(s.program.url, "http://"))
	c := newClients(t, "http://"+s.front.Addr())
	for i := range 3 * soakConversations {
		s.follow(c, fmt.Sprint("c", i%soakConversations), i)
	}
	s.follow(c, "own", 3*soakConversations)
	for i := range soakConversations {
		s.listeners = append(s.listeners, c.listen(t, []string{topicOf(fmt.Sprint("c", i))}, nil))
	}
	s.writeSQL(seed, "on")
	s.writeSQL(seed+1, "off") // commits that a crash may undo
	s.writeRPC(c)
	return s
}

// keep holds on to the program's last lines, for a failure.
func (s *soak) keep(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
	s.log = s.log[max(0, len(s.log)-60):]
}

// follow adds a mirror, and counts answers that told it nothing new.
func (s *soak) follow(c *clients, conversation string, i int) {
	counting := *c
	var mu sync.Mutex
	var last *messagesv1.ListMessagesResponse
	counting.messages = countingClient{c.messages, func(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
		resp, err := c.messages.ListMessages(ctx, req)
		if err != nil {
			s.failedFetches.Add(1)
			return resp, err
		}
		s.fetches.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if last != nil && proto.Equal(last, resp.Msg) {
			s.same.Add(1)
		}
		last = resp.Msg
		return resp, err
	}}
	s.mirrors = append(s.mirrors, counting.mirror(s.t, fmt.Sprintf("client %d of %s", i, conversation), conversation))
}

// every writes at an even pace, unless the writers rest.
func (s *soak) every(interval time.Duration, write func(context.Context)) {
	background(s.t, func(ctx context.Context) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.resting.RLock()
			// Long enough for a commit that is held, and for a server that is down.
			ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
			write(ctx)
			cancel()
			s.resting.RUnlock()
		}
	})
}

func (s *soak) writeSQL(seed uint64, synchronous string) {
	rng := rand.New(rand.NewPCG(seed, 2))
	var conn *pgx.Conn
	leave := func() {
		if conn != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = conn.Close(ctx) // the server may be gone
			conn = nil
		}
	}
	s.t.Cleanup(leave)
	s.every(20*time.Millisecond, func(ctx context.Context) {
		var err error
		if conn == nil {
			if conn, err = pgx.Connect(ctx, testkit.WithParam(s.t, s.database, "synchronous_commit", synchronous)); err != nil {
				s.failedWrites.Add(1)
				return
			}
		}
		here := fmt.Sprint("c", rng.IntN(soakConversations))
		const some = ` where id = (select id from only messages where conversation = $1 order by random() limit 1)`
		switch n := rng.IntN(100); {
		case n < 40:
			_, err = conn.Exec(ctx, `insert into messages (conversation, author, body) select $1, 'sql', $2
				where (select count(*) from only messages where conversation = $1) < 100`, here, fmt.Sprint("body ", rng.IntN(1000)))
		case n < 75:
			_, err = conn.Exec(ctx, `update messages set body = $2`+some, here, fmt.Sprint("body ", rng.IntN(1000)))
		case n < 95:
			_, err = conn.Exec(ctx, `delete from messages`+some, here)
		default:
			_, err = conn.Exec(ctx, `update messages set conversation = $2`+some, here, fmt.Sprint("c", rng.IntN(soakConversations)))
		}
		if err != nil {
			s.failedWrites.Add(1)
			leave()
			return
		}
		s.sql.Add(1)
	})
}

// writeRPC writes to a conversation of its own, and reads its writes back (G5).
func (s *soak) writeRPC(c *clients) {
	var names []string
	s.every(50*time.Millisecond, func(ctx context.Context) {
		name, stamp, err := c.create(ctx, "own", fmt.Sprint("body ", len(names)))
		if err != nil {
			s.failedWrites.Add(1) // or it was done and the answer was lost
			return
		}
		s.rpc.Add(1)
		got, err := c.messages.GetMessage(client.AtLeast(ctx, stamp.Revision), connect.NewRequest(&messagesv1.GetMessageRequest{Name: name}))
		switch {
		case err == nil && got.Msg.GetMessage().GetName() == name:
			s.readBack.Add(1)
		case connect.CodeOf(err) == connect.CodeNotFound:
			s.mu.Lock()
			s.violation = errors.Join(s.violation, fmt.Errorf("%s, written at %v, was not found by a read at-least that", name, stamp.Revision))
			s.mu.Unlock()
		}
		if names = append(names, name); len(names) > 50 {
			if _, err := c.messages.DeleteMessage(ctx, connect.NewRequest(&messagesv1.DeleteMessageRequest{Name: names[0]})); err != nil {
				s.failedWrites.Add(1)
			}
			names = names[1:]
		}
	})
}

// compare lets the writers rest and holds every client against Postgres.
func (s *soak) compare() {
	s.t.Helper()
	s.resting.Lock()
	defer s.resting.Unlock()
	s.faults["(compared)"]++
	ctx, cancel := context.WithTimeout(s.ctx, soakPatience)
	defer cancel()
	conn := testkit.Conn(s.t, s.database)
	began := time.Now()
	var all error
	for _, m := range s.mirrors {
		want, err := truth(ctx, conn, m.conversation)
		require.NoError(s.t, err)
		all = errors.Join(all, m.converges(ctx, want))
	}
	if took := time.Since(began); took > s.slowest {
		s.slowest, s.before = took, s.history[len(s.history)-1]
	}
	for _, l := range s.listeners {
		l.mu.Lock()
		if l.fault != "" {
			all = errors.Join(all, errors.New(l.fault))
		}
		l.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if all = errors.Join(all, s.violation); all != nil {
		s.t.Fatalf("soak: after %s:\n%v\n\n%s\n\nthe program's last lines:\n%s",
			strings.Join(s.history[max(0, len(s.history)-15):], ", "), all, s.table(), strings.Join(s.log, "\n"))
	}
}

// sample takes the program's memory, once it has been up for a while.
func (s *soak) sample() {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(s.program.cmd.Process.Pid) + "/status")
	if err != nil || time.Since(s.program.since) < 5*time.Second {
		return
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); err == nil {
			s.rss = append(s.rss, kilobytes)
		}
	}
}

func (s *soak) heard() (notices, resets, connections int) {
	for _, l := range s.listeners {
		l.mu.Lock()
		notices, resets, connections = notices+l.notices, resets+len(l.resets), connections+len(l.ready)
		l.mu.Unlock()
	}
	return notices, resets, connections
}

func (s *soak) figures() string {
	notices, resets, _ := s.heard()
	return fmt.Sprintf("%d faults, %d writes, %d notices, %d refetches, %d resets",
		len(s.history), s.sql.Load()+s.rpc.Load(), notices, s.fetches.Load(), resets)
}

func (s *soak) table() string {
	var b strings.Builder
	line := func(name string, format string, args ...any) {
		fmt.Fprintf(&b, "  %-34s %s\n", name, fmt.Sprintf(format, args...))
	}
	names := make([]string, 0, len(s.faults))
	for name := range s.faults {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line(name, "%d", s.faults[name])
	}
	notices, resets, connections := s.heard()
	line("writes by SQL, by RPC, failed", "%d, %d, %d", s.sql.Load(), s.rpc.Load(), s.failedWrites.Load())
	line("own writes read back", "%d", s.readBack.Load())
	line("notices to 4 listeners", "%d", notices)
	line("connections of 4 listeners", "%d", connections)
	line("resets to 4 listeners", "%d", resets)
	line("refetches of 13 clients, failed", "%d, %d", s.fetches.Load(), s.failedFetches.Load())
	line("refetches with the same answer", "%d", s.same.Load())
	line("slowest comparison", "%v, after: %s", s.slowest.Round(time.Millisecond), s.before)
	if len(s.rss) > 0 {
		line("memory first, last, most (MiB)", "%d, %d, %d", s.rss[0]>>10, s.rss[len(s.rss)-1]>>10, slices.Max(s.rss)>>10)
	}
	return b.String()
}
