package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/bench/rig"
)

// patience is how long anything may take before the run fails. It is far above
// every latency worth reporting.
const patience = 10 * time.Second

// measuredConversations bounds the samples in flight; each stream follows them
// all, and a stream may have 1,000 topics.
const measuredConversations = 500

// scenario is a load under which latency is measured.
type scenario struct {
	Name         string  `json:"name"`
	MeasuredRate float64 `json:"measured_per_second"` // wanted
	TotalRate    float64 `json:"total_per_second"`    // wanted, measured and background
}

// result is one run of a scenario.
type result struct {
	Samples      int                `json:"samples"`
	Seconds      float64            `json:"seconds"`
	WritesPerSec float64            `json:"writes_per_second"`             // achieved, all writers
	OthersPerSec float64            `json:"other_transactions_per_second"` // the gate, reads, this program's own
	CPU          rig.CPUShare       `json:"cpus_busy"`
	StrayNotices int                `json:"stray_notices"` // without a commit: allowed, and rare
	Quantities   map[string]summary `json:"quantities"`

	samples []*sample
}

// runScenario measures once: streams and writers start, a warm-up passes, the
// samples of the next `seconds` count, and every commit is followed to its end.
func runScenario(ctx context.Context, t *rig.Server, sc scenario, o *options, progress io.Writer) (_ *result, err error) {
	var conversations []string
	for i := range measuredConversations {
		conversations = append(conversations, fmt.Sprintf("measured-%d", i))
	}
	b := newBook(conversations)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	f, err := newFollower(t.URL, &http.Client{Transport: transport}, conversations, b)
	if err != nil {
		return nil, err
	}

	g, running := errgroup.WithContext(ctx)
	following, stopFollowing := context.WithCancel(running)
	defer stopFollowing()
	ready := make(chan struct{}, 2)
	g.Go(func() error { return f.run(following, func() { ready <- struct{}{} }) })
	for range cap(ready) {
		select {
		case <-ready:
		case <-running.Done():
			return nil, errors.Join(context.Cause(running), g.Wait())
		case <-time.After(patience):
			stopFollowing()
			return nil, errors.Join(errors.New("the streams aren't ready"), g.Wait())
		}
	}

	writing, stopWriting := context.WithCancel(running)
	defer stopWriting()
	var written atomic.Int64
	var writers errgroup.Group
	add := func(write func() error) {
		writers.Go(func() error {
			err := write()
			if err != nil {
				stopWriting()
			}
			return err
		})
	}
	add(func() error { return writeMeasured(writing, t.DatabaseURL, sc.MeasuredRate, b, &written) })
	if background := sc.TotalRate - sc.MeasuredRate; background > 0 {
		add(func() error { return writeBackground(writing, t.DatabaseURL, o.Writers, background, &written) })
	}

	r := &result{}
	rig.Wait(writing, o.Warmup)
	before, beforeErr := read(running, t, &written)
	r.watch(writing, o.Duration, b, &written, progress)
	after, afterErr := read(running, t, &written)

	stopWriting()
	if err = errors.Join(writers.Wait(), beforeErr, afterErr); err == nil {
		draining, cancel := context.WithTimeoutCause(running, patience, fmt.Errorf("not told within %v", patience))
		err = b.drain(draining)
		cancel()
	}
	stopFollowing()
	if err := errors.Join(g.Wait(), err); err != nil {
		return nil, err
	}
	if r.StrayNotices, err = b.verdict(); err != nil {
		return nil, err
	}
	r.fill(b.between(before.at, after.at), before, after)
	return r, nil
}

// reading is what is read before and after the measured time.
type reading struct {
	at           time.Time
	written      int64
	transactions int64
	cpu          rig.CPUTimes
}

func read(ctx context.Context, t *rig.Server, written *atomic.Int64) (reading, error) {
	transactions, err := readTransactions(ctx, t.DatabaseURL)
	return reading{time.Now(), written.Load(), transactions, rig.ReadCPU(t.PID, t.PostgresPID)}, err
}

// watch lets d pass, with a line every five seconds.
func (r *result) watch(ctx context.Context, d time.Duration, b *book, written *atomic.Int64, progress io.Writer) {
	const every = 5 * time.Second
	start, before := time.Now(), written.Load()
	for left := d; left > 0 && ctx.Err() == nil; left = d - time.Since(start) {
		rig.Wait(ctx, min(every, left))
		passed := time.Since(start)
		finished, early, _ := b.counts()
		fmt.Fprintf(progress, "  %4.0f s  %6.0f writes/s  %6d samples with warm-up, %d too early\n",
			passed.Seconds(), float64(written.Load()-before)/passed.Seconds(), finished, early)
	}
}

func (r *result) fill(samples []*sample, before, after reading) {
	r.samples = samples
	r.Samples = len(samples)
	wall := after.at.Sub(before.at)
	written := after.written - before.written
	r.Seconds = wall.Seconds()
	r.WritesPerSec = float64(written) / wall.Seconds()
	r.OthersPerSec = float64(after.transactions-before.transactions-written) / wall.Seconds()
	r.CPU = before.cpu.Until(after.cpu, wall)
	r.Quantities = make(map[string]summary)
	for _, q := range quantities {
		r.Quantities[q.Key] = summarize(valuesOf(samples, q))
	}
}

func valuesOf(samples []*sample, q quantity) []millis {
	values := make([]millis, len(samples))
	for i, s := range samples {
		values[i] = millisOf(q.of(s))
	}
	return values
}

// readTransactions is how many transactions the database has ended so far. Each
// backend reports its own once a second at most, so over a run the difference
// is right to a few per cent.
func readTransactions(ctx context.Context, databaseURL string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = conn.QueryRow(ctx, `select xact_commit + xact_rollback from pg_stat_database where datname = current_database()`).Scan(&n)
	return n, err
}
