package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

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
	var possible []string
	lacking := map[need][]string{}
	for _, f := range faults {
		if c.has(f.needs) {
			possible = append(possible, f.name)
		}
		switch all := slices.Contains(c.Faults, "all"); {
		case !all && !slices.Contains(c.Faults, f.name):
		case c.has(f.needs):
			chosen = append(chosen, f)
		case all && c.Stage != nil:
			// All that can happen to what there is: one node has no standby to read from.
		default:
			lacking[f.needs] = append(lacking[f.needs], f.name)
		}
	}
	if len(lacking) == 0 {
		return chosen, nil
	}
	var refusals []string
	for needs, why := range []string{
		database: "needs its database",
		stage:    "can only be done to a server of the checker's own",
		proxies:  "needs proxies between the checker's own server and Postgres",
		postgres: "can only be done to a Postgres of the checker's own",
		commits:  "can only be done to a Postgres of the checker's own",
		slots:    "can only be done to a slot of the checker's own",
		several:  "can only be done to several nodes of the checker's own",
		fronts:   "needs a balancer of the checker's own",
		standby:  "can only be done to a standby of the checker's own",
		replicas: "needs proxies between the checker's own server and its standby",
		nats:     "can only be done to servers of NATS of the checker's own",
	} {
		if names := lacking[need(needs)]; len(names) > 0 {
			refusals = append(refusals, fmt.Sprintf("%s %s (%s)", strings.Join(names, ", "), why, need(needs).given()))
		}
	}
	return nil, fmt.Errorf("faults: %s; possible here: %s", strings.Join(refusals, "; "), strings.Join(possible, ","))
}

func allFaults() []string {
	names := make([]string, 0, len(faults))
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// aimed is a fault, and the node that it happens to; -1: not to one alone.
type aimed struct {
	fault
	node int
}

// aim makes one of each fault, and of those that happen to a node one for each.
func aim(faults []fault, nodes int) []aimed {
	var all []aimed
	for _, f := range faults {
		if f.run != nil {
			all = append(all, aimed{f, -1})
			continue
		}
		for node := range nodes {
			all = append(all, aimed{f, node})
		}
	}
	return all
}

// planned is a fault to come. Nothing of it depends on what happens meanwhile.
type planned struct {
	aimed
	after  time.Duration // since the one before
	length time.Duration
	seed   uint64
}

// cause lets it happen.
func (p *planned) cause(ctx context.Context, r *run) error {
	if p.run == nil {
		return p.each(ctx, r, &r.cfg.Stage.Nodes[p.node], p.length)
	}
	return p.run(ctx, r, p.length, rand.New(rand.NewPCG(p.seed, 51)))
}

// schedule deals faults: each once, in any order, then again.
type schedule struct {
	rng    *rand.Rand
	faults []aimed
	deck   []aimed
}

// newSchedule has no faults to deal if there is nothing that they could happen to: nil.
func newSchedule(seed uint64, faults []fault, nodes int) *schedule {
	all := aim(faults, nodes)
	if len(all) == 0 {
		return nil
	}
	return &schedule{rng: rand.New(rand.NewPCG(seed, 50)), faults: all}
}

func (s *schedule) next() planned {
	if len(s.deck) == 0 {
		s.deck = slices.Clone(s.faults)
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	p := planned{aimed: s.deck[0], after: 100*time.Millisecond + time.Duration(s.rng.Int64N(int64(1400*time.Millisecond))), seed: s.rng.Uint64()}
	s.deck = s.deck[1:]
	if p.most > 0 {
		p.length = time.Duration(s.rng.Int64N(int64(p.most)))
	}
	return p
}

// Caused is a fault that a run caused.
type Caused struct {
	Name     string
	Node     int // which of several it happened to, from 1; zero: not to one alone, or there is but one
	At, Took time.Duration
}

func (c Caused) String() string {
	if c.Node == 0 {
		return c.Name
	}
	return fmt.Sprintf("%s %d", c.Name, c.Node)
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
		if r.cfg.has(several) {
			caused.Node = p.node + 1
		}
		r.rec.fault(caused.String())
		err := p.cause(ctx, r)
		r.rec.fault("")
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fault %v: %w", caused, err)
		}
		caused.Took = r.rec.now() - caused.At
		r.caused = append(r.caused, caused)
	}
}
