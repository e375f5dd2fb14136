package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/internal/badnet"
)

// Stage is a server that is the checker's own, with its Postgres: it may do
// anything to both.
type Stage struct {
	// Kill ends the server's process at once, with SIGKILL.
	Kill func()
	// Start starts it again and returns its URL when it is ready.
	Start func(context.Context) (url string, err error)
	// RestartPostgres stops it in order and starts it again; CrashPostgres kills
	// every process of it first.
	RestartPostgres, CrashPostgres func(context.Context) error
	// Pool and Feed are between the server and Postgres: its pool's connections,
	// and those of its feed.
	Pool, Feed Connections
	// HoldCommits makes commits wait for a synchronous standby that doesn't
	// exist, or ends that; DropSlot drops the server's replication slot.
	HoldCommits func(ctx context.Context, on bool) error
	DropSlot    func(context.Context) error
	// Look is how often the server looks at its database's catalog: clients may
	// take twice that long for changes that nothing else shows it.
	Look time.Duration
}

// Connections go through a place where they can be disturbed.
type Connections interface {
	// Cut breaks all there are.
	Cut()
	// Pause lets nothing through while they stay open, Delay holds everything back
	// for a while, both until Resume.
	Pause()
	Delay(time.Duration)
	Resume()
}

// need is what a fault, or an exercise, can't do without.
type need uint8

const (
	anything need = iota
	database      // Config.Database
	stage         // Config.Stage
)

// fault is one thing that goes wrong, and is right again when run returns. An
// error means that the run can't go on.
type fault struct {
	name  string
	does  string
	needs need
	most  time.Duration // how long it lasts
	run   func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error
}

// faults are all there are. A name is what --faults takes.
var faults = []fault{
	{"kill-server", "the server's process is killed, and started again", stage, time.Second,
		func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			r.cfg.Stage.Kill()
			pass(ctx, length)
			url, err := r.cfg.Stage.Start(ctx)
			if err == nil {
				err = r.point(url)
			}
			return err
		}},
	{"restart-postgres", "Postgres is stopped in order, and started again", stage, 0,
		func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.cfg.Stage.RestartPostgres(ctx)
		}},
	{"crash-postgres", "every process of Postgres is killed; what committed asynchronously may be gone", stage, 0,
		func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.cfg.Stage.CrashPostgres(ctx)
		}},
	{"cut-clients", "all connections to the server break", anything, 0,
		func(_ context.Context, r *run, _ time.Duration, _ *rand.Rand) error { r.front.Cut(); return nil }},
	{"refuse-clients", "all break, and new ones are refused", anything, 2 * time.Second,
		onProxies(func(c Connections) { c.(*badnet.Proxy).Refuse() }, front)},
	{"stall-clients", "nothing passes between clients and server, and connections stay open", anything, 4 * time.Second,
		onProxies(Connections.Pause, front)},
	{"delay-clients", "whatever passes between clients and server takes 50 ms", anything, 3 * time.Second, onProxies(slow, front)},
	{"cut-pool", "the server's connections for queries break", stage, 0,
		func(_ context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			r.cfg.Stage.Pool.Cut()
			return nil
		}},
	{"cut-feed", "the feed's connections break", stage, 0,
		func(_ context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			r.cfg.Stage.Feed.Cut()
			return nil
		}},
	{"stall-feed", "nothing passes between the feed and Postgres", stage, 6 * time.Second, onProxies(Connections.Pause, feed)},
	{"delay-database", "whatever passes between server and Postgres takes 50 ms", stage, 3 * time.Second, onProxies(slow, pool, feed)},
	{"stop-reading", "every tenth client stops reading its stream", anything, 4 * time.Second,
		func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			return r.tenth(ctx, length, rng, func(s *subject, until chan struct{}) { s.deaf.Store(&until) })
		}},
	{"freeze-clients", "every tenth client does nothing at all", anything, 4 * time.Second,
		func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			return r.tenth(ctx, length, rng, func(s *subject, until chan struct{}) { s.frozen.Store(&until) })
		}},
	{"hold-commits", "commits are flushed and stay invisible, waiting for a synchronous standby", stage, 3 * time.Second,
		func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
			err := r.cfg.Stage.HoldCommits(ctx, true)
			pass(ctx, length)
			return errors.Join(err, r.cfg.Stage.HoldCommits(context.WithoutCancel(ctx), false))
		}},
	{"long-transaction", "a transaction writes early and ends late", database, 4 * time.Second,
		func(ctx context.Context, r *run, length time.Duration, rng *rand.Rand) error {
			r.long.bySQL(ctx, r.longSession, r.readers[byPost], Manner{After: length, Rollback: rng.IntN(4) == 0})
			return nil
		}},
	{"lose-slot", "the server's replication slot is dropped under it, and its copies with it", stage, 0,
		func(ctx context.Context, r *run, _ time.Duration, _ *rand.Rand) error {
			return r.cfg.Stage.DropSlot(ctx)
		}},
}

func front(r *run) Connections { return r.front }
func pool(r *run) Connections  { return r.cfg.Stage.Pool }
func feed(r *run) Connections  { return r.cfg.Stage.Feed }

func slow(c Connections) { c.Delay(50 * time.Millisecond) }

// onProxies does something to proxies, and mends it after a while.
func onProxies(do func(Connections), to ...func(*run) Connections) func(context.Context, *run, time.Duration, *rand.Rand) error {
	return func(ctx context.Context, r *run, length time.Duration, _ *rand.Rand) error {
		for _, proxy := range to {
			do(proxy(r))
		}
		pass(ctx, length)
		for _, proxy := range to {
			proxy(r).Resume()
		}
		return nil
	}
}

// tenth does something to every tenth client, until the channel is closed.
func (r *run) tenth(ctx context.Context, length time.Duration, rng *rand.Rand, do func(*subject, chan struct{})) error {
	until := make(chan struct{})
	defer close(until)
	for _, n := range rng.Perm(len(r.subjects))[:(len(r.subjects)+9)/10] {
		do(r.subjects[n], until)
	}
	pass(ctx, length)
	return nil
}

// pass lets time pass; less if ctx ends.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// FaultNames are all that Config.Faults knows, each with what it does.
func FaultNames() [][2]string {
	names := make([][2]string, 0, len(faults))
	for _, f := range faults {
		names = append(names, [2]string{f.name, f.does})
	}
	return names
}

// chosenFaults finds them by name; all and none are names, too.
func (c *Config) chosenFaults() ([]fault, error) {
	for _, name := range c.Faults {
		switch {
		case name == "none" && len(c.Faults) > 1:
			return nil, errors.New("faults: none, and others?")
		case name != "all" && name != "none" && !slices.Contains(allFaults(), name):
			return nil, fmt.Errorf("%q is no fault: there are %s, all and none", name, strings.Join(allFaults(), ", "))
		}
	}
	var chosen []fault
	var alone, connected, possible []string // those that lack a stage, that lack a database, that lack nothing
	for _, f := range faults {
		asked := slices.Contains(c.Faults, f.name) || slices.Contains(c.Faults, "all")
		switch {
		case f.needs == stage && c.Stage == nil && asked:
			alone = append(alone, f.name)
		case f.needs == database && c.Database == nil && asked:
			connected = append(connected, f.name)
		case asked:
			chosen = append(chosen, f)
		}
		if (f.needs != stage || c.Stage != nil) && (f.needs != database || c.Database != nil) {
			possible = append(possible, f.name)
		}
	}
	if len(alone)+len(connected) == 0 {
		return chosen, nil
	}
	text := "faults:"
	if len(alone) > 0 {
		text += fmt.Sprintf(" %s can only be done to a server of the checker's own (--serve);", strings.Join(alone, ", "))
	}
	if len(connected) > 0 {
		text += fmt.Sprintf(" %s needs its database (--database-url, or --serve);", strings.Join(connected, ", "))
	}
	return nil, fmt.Errorf("%s possible here: %s", text, strings.Join(possible, ","))
}

func allFaults() []string {
	names := make([]string, 0, len(faults))
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// planned is a fault to come. Nothing of it depends on what happens meanwhile.
type planned struct {
	fault
	after  time.Duration // since the one before
	length time.Duration
	seed   uint64
}

// schedule deals faults: each once, in any order, then again.
type schedule struct {
	rng    *rand.Rand
	faults []fault
	deck   []fault
}

func newSchedule(seed uint64, faults []fault) *schedule {
	return &schedule{rng: rand.New(rand.NewPCG(seed, 50)), faults: faults}
}

func (s *schedule) next() planned {
	if len(s.deck) == 0 {
		s.deck = slices.Clone(s.faults)
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	p := planned{fault: s.deck[0], after: 100*time.Millisecond + time.Duration(s.rng.Int64N(int64(1400*time.Millisecond))), seed: s.rng.Uint64()}
	s.deck = s.deck[1:]
	if p.most > 0 {
		p.length = time.Duration(s.rng.Int64N(int64(p.most)))
	}
	return p
}

// Caused is a fault that a run caused.
type Caused struct {
	Name     string
	At, Took time.Duration
}

// cause lets faults happen until round ends; what has begun then is mended. It
// returns an error when the run can't go on.
func (r *run) cause(ctx, round context.Context) error {
	for {
		if r.planned == nil {
			p := r.schedule.next()
			r.planned = &p
		}
		pass(round, r.planned.after)
		if round.Err() != nil {
			return nil
		}
		p := *r.planned
		r.planned = nil
		caused := Caused{Name: p.name, At: r.rec.now()}
		r.rec.fault(p.name)
		err := p.run(ctx, r, p.length, rand.New(rand.NewPCG(p.seed, 51)))
		r.rec.fault("")
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fault %s: %w", p.name, err)
		}
		caused.Took = r.rec.now() - caused.At
		r.caused = append(r.caused, caused)
	}
}
