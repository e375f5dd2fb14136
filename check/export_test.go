package check

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/rule"
)

// JudgeWindows is Judge of a history that comes in windows.
func JudgeWindows(windows ...*History) []Verdict {
	j := newJudge(everyKind)
	for _, h := range windows {
		j.take(h)
	}
	return j.verdicts
}

// Planned is a fault of a schedule.
type Planned struct {
	Name          string
	Node          int
	After, Length time.Duration
}

// Schedule deals n faults of all there are, to so many nodes.
func Schedule(seed uint64, nodes, n int) []Planned {
	s := newSchedule(seed, faults, nodes)
	var all []Planned
	for range n {
		p := s.next()
		all = append(all, Planned{p.name, p.node, p.after, p.length})
	}
	return all
}

// Deck is how many faults there are to deal before one comes again.
func Deck(nodes int) int { return len(aim(faults, nodes)) }

// Summarize is what a report says of values.
func Summarize(values []time.Duration) Latency {
	var m measured
	for _, v := range values {
		m.add(v)
	}
	return m.summary()
}

// WriteByRPC is what a writer does in n turns.
func WriteByRPC(ctx context.Context, of Workload, h *http.Client, url string, places []string, n int) ([]Write, error) {
	s, err := of.prepare()
	if err != nil {
		return nil, err
	}
	rec, names := newRecorder(s), newDirectory(s)
	r := newReader(s.dial(h, url, connect.WithInterceptors(client.NewInterceptor()))[byPost], names, rec, places)
	w := newWriter("rpc-1", rec, names, rand.New(rand.NewPCG(1, 1)), places, &atomic.Int64{})
	for range n {
		w.byRPC(ctx, r)
	}
	return rec.cut(nil).Writes, nil
}

// Insert is how a row is made.
func Insert(row int) Manner { return Manner{IDs: []string{uuidOf("test", row)}} }

// Remembered is how many rows rules keep in mind after some windows.
func Remembered(windows ...*History) int {
	j := newJudge(everyKind)
	for _, h := range windows {
		j.take(h)
	}
	rows := map[*row]bool{}
	for _, list := range j.x.rowsOf {
		for _, r := range list {
			rows[r] = true
		}
	}
	return len(rows)
}

// JoinPages is how a list that comes in pages becomes one answer.
var JoinPages = joinPages

// Full is what the server calls a topic, if row 5 has the id id-5; Short is the reverse.
func Full(of Workload, short string) string { return directoryOf(of).full(short) }

// Short is what a history calls a topic.
func Short(of Workload, full string) string { return strings.Join(directoryOf(of).short(full), " ") }

func directoryOf(w Workload) *directory {
	s, err := w.prepare()
	if err != nil {
		panic(err)
	}
	d := newDirectory(s)
	d.name(5, "id-5")
	return d
}

// ComeBack has a client follow row 5, which is in place a: its stream is ready at first
// and tells told. Then it leaves the row and comes back to it, with a stream that is
// ready at again.
func ComeBack(ctx context.Context, of Workload, h *http.Client, url string, first, told, again freshet.Revision) *History {
	names := directoryOf(of)
	names.place(5, "a")
	s := newSubject("client-1", nil, rand.New(rand.NewPCG(1, 1)))
	s.names, s.rec, s.items = names, newRecorder(names.of), 1
	s.reader = newReader(names.of.dial(h, url, connect.WithInterceptors(client.NewInterceptor()))[byPost], names, s.rec, []string{"a"})
	land := func() { (<-s.inbox)(ctx) }
	s.lookElsewhere()
	s.subscribe()
	s.hear(ctx, client.Ready{Revision: first})
	land()
	s.hear(ctx, client.Frontier{Revision: told})
	s.lookElsewhere()
	s.subscribe()
	s.hear(ctx, client.Ready{Revision: again})
	land()
	s.flights.Wait()
	return s.rec.cut(nil)
}

// Reopen has a client that was told up to told, of place a, and of row 5 if both, open a
// stream because an answer of revision answered has row 5 in a; and again before that
// stream was ready, and after it. It returns since when each is to tell of row 5; zero:
// as of the rest.
func Reopen(of Workload, both bool, told, answered freshet.Revision) (since [3]freshet.Revision) {
	names := directoryOf(of)
	names.place(5, "a")
	row := itemTopic("a", 5)
	s := newSubject("client-1", []string{"a"}, rand.New(rand.NewPCG(1, 1)))
	if both {
		s.add(row)
	}
	s.names, s.rec = names, newRecorder(names.of)
	s.reader = newReader(names.of.dial(http.DefaultClient, "http://127.0.0.1:1")[byPost], names, s.rec, []string{"a"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that nothing is read
	s.subscribe()
	s.hear(ctx, client.Ready{Revision: told})
	s.screens["a"].rule.Answer(rule.Input{Kind: rule.OnAnswer, Flight: 1, Revision: answered}, []string{"a", row})
	for i := range since {
		_, sinceBy := s.subscribe()
		since[i] = sinceBy[row]
		if i == 1 {
			s.hear(ctx, client.Ready{Revision: told.Max(answered)})
		}
	}
	s.flights.Wait()
	return since
}

// UnlessCancelled is how something is done on a standby.
var UnlessCancelled = unlessCancelled

// ConvergeBy is when a client has to show what Postgres holds in an epoch: its stream began
// at since, writes stopped at began, the epoch served was told first at begun, and the
// checker stood still for stood. Unless known, nobody can be held to it.
func ConvergeBy(began, patience, since, begun, stood time.Duration, served, held freshet.Epoch) (due time.Duration, known bool) {
	rec := &recorder{heard: freshet.Revision{Epoch: served}, begun: begun, still: stillness{sum: stood}}
	return bound{began: began, patience: patience}.of(&subject{since: since}, &Held{Epoch: held}, rec)
}

// Stopped reports whether the last window of a run is judged that was stopped, where some
// stream had told an epoch, and Postgres said what it holds in one.
func Stopped(ctx context.Context, told, held freshet.Epoch) (judged bool) {
	rec := newRecorder(nil)
	rec.heard.Epoch = told
	r := &run{rec: rec, truth: slowSession{held: Held{Epoch: held}}, cfg: Config{Database: &Postgres{}}, judge: newJudge(everyKind)}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	r.close(ctx, nil)
	return !r.unjudged
}

// Floors are what the next commit will surely be above when some stream has told told; when
// Postgres has been started anew while somebody else was told meanwhile; and once next has been told.
func Floors(ctx context.Context, told, meanwhile, next freshet.Revision) (floors [3]freshet.Revision) {
	r := &run{rec: newRecorder(nil)}
	tell := func(rev freshet.Revision) { r.rec.frame(Frame{Kind: Heartbeat, Revision: rev}) }
	tell(told)
	floors[0] = r.rec.floor()
	_ = r.endEpoch(ctx, func(context.Context) error { tell(meanwhile); return nil })
	floors[1] = r.rec.floor()
	tell(next)
	floors[2] = r.rec.floor()
	return floors
}

// Stood is how long a process stood still until now that had time at the ticks.
func Stood(now time.Duration, ticks ...time.Duration) time.Duration {
	var s stillness
	for _, at := range ticks {
		s.tick(at)
	}
	return s.at(now)
}

// Late waits for a client whose stream begins at connected, and which shows what Postgres
// holds from shows on, as a round does whose writes stopped at zero. Postgres takes reading to
// say what it holds. It returns what the client is accused of showing; nil: of nothing.
func Late(ctx context.Context, patience, connected, shows, reading time.Duration) []View {
	truth := map[string][]Cell{"a": {{1, 1}}}
	rec := newRecorder(nil)
	r := &run{rec: rec, truth: slowSession{reading, Held{Places: truth}}}
	s := &subject{shown: map[string]Content{"a": {}}, changed: make(chan struct{}), rec: rec}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go rec.tick(ctx)
	go func() {
		pass(ctx, connected)
		s.setConnected(true, 0)
		pass(ctx, shows-connected)
		s.mu.Lock()
		s.shown["a"] = Content{Cells: truth["a"]}
		s.mu.Unlock()
		s.news()
	}()
	views, _, err := r.converge(ctx, bound{patience: patience}, s, &Held{Places: truth})
	if err != nil {
		panic(err)
	}
	return slices.DeleteFunc(views, func(v View) bool { return v.Shown.equal(v.Truth) })
}

type slowSession struct {
	reading time.Duration
	held    Held
}

func (s slowSession) Write(context.Context, *Write, Manner, func() time.Duration) error { return nil }
func (s slowSession) Close()                                                            {}
func (s slowSession) Read(ctx context.Context, _ []string) (Held, error) {
	pass(ctx, s.reading)
	return s.held, ctx.Err()
}
