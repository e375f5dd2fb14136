package sim

import (
	"fmt"
	"math"
)

// Limits are what machines are like, and how much of them may be used.
type Limits struct {
	Busy           float64 `json:"busy"` // share of anything up to which it is used; the rest is for peaks and for what fails
	StreamsPerNode int     `json:"streams_per_node"`
	NodeCores      int     `json:"node_cores"` // one of them feeds
	NodeGiB        float64 `json:"node_gib"`
	PrimaryCores   []int   `json:"primary_cores"` // sizes that there are, ascending; replicas have the largest
	BusCores       int     `json:"bus_cores"`
	BusBytes       float64 `json:"bus_bytes"` // a second, that its network takes
}

// What can give out. Nodes can't: there are more.
const (
	TheWalsender = "a walsender's core"
	TheFeed      = "the core that feeds a node"
	TheHolder    = "the core of the node that decodes for all"
	ThePrimary   = "the primary's CPUs"
	TheBus       = "the message bus"
)

// Plan is a fleet that is large enough. Who needs several databases has several fleets,
// each with a share of clients, topics and commits.
type Plan struct {
	Shards int
	Limit  string // what would have given out with a shard less; empty: there is one
	Load   Load   // of one shard
	Fleet  Fleet  // of one shard
	Expect *Expectation
}

const mostShards = 4096

// Size finds the least fleet for a load; of it, whether it has replicas, a relay and
// affinity is as in the fleet that is wanted, and one replica stands for as many as it
// takes. The error says what gives out however many shards there are.
func Size(c Costs, l Load, want Fleet, lim Limits) (*Plan, error) {
	try := func(shards int) (p *Plan, ok bool, err error) {
		p = &Plan{Shards: shards, Load: l.shard(shards)}
		if p.Fleet, p.Expect, err = Nodes(c, p.Load, want, lim); err != nil {
			return nil, false, err
		}
		name, used := tightest(p.Expect, p.Fleet, lim)
		p.Limit = name
		p.Fleet.PrimaryCores = fits(p.Expect.Primary, lim)
		return p, used <= lim.Busy, nil
	}
	few, enough := 0, 1
	best, ok, err := try(1)
	for ; err == nil && !ok; best, ok, err = try(enough) {
		if few, enough = enough, 2*enough; enough > mostShards {
			return nil, fmt.Errorf("%s gives out in %d shards", best.Limit, few)
		}
	}
	limit := ""
	for err == nil && enough-few > 1 {
		var p *Plan
		if p, ok, err = try((few + enough) / 2); ok {
			best, enough = p, p.Shards
		} else if err == nil {
			few = p.Shards
		}
	}
	if err == nil && few > 0 {
		var p *Plan
		if p, _, err = try(few); err == nil {
			limit = p.Limit
		}
	}
	if err != nil {
		return nil, err
	}
	best.Limit = limit
	return best, nil
}

func (l Load) shard(shards int) Load {
	l.Clients = (l.Clients + shards - 1) / shards
	l.Commits /= float64(shards)
	return l
}

// Nodes adds nodes to a fleet with one database until they have the CPU, the memory and
// the sockets, and replicas until they have the CPU, whatever becomes of the rest.
func Nodes(c Costs, l Load, want Fleet, lim Limits) (Fleet, *Expectation, error) {
	f := want
	f.Cores, f.BusCores = lim.NodeCores-1, lim.BusCores
	f.PrimaryCores = lim.PrimaryCores[len(lim.PrimaryCores)-1]
	f.ReplicaCores = f.PrimaryCores
	f.Nodes = max(2, (l.Clients+lim.StreamsPerNode-1)/lim.StreamsPerNode) // one may fail
	for {
		e, err := Expect(c, l, f)
		if err != nil {
			return f, nil, err
		}
		cpu := e.Streams / (lim.Busy * float64(f.Cores))
		memory := e.NodeMemory / (lim.Busy * lim.NodeGiB * (1 << 30))
		if most := max(cpu, memory); most > 1 && f.Nodes < 1_000_000 {
			f.Nodes = max(f.Nodes+1, int(float64(f.Nodes)*min(2, (1+most)/2)))
			continue
		}
		if want.Replicas > 0 {
			f.Replicas = max(1, int(math.Ceil(e.Replicas/(lim.Busy*float64(f.ReplicaCores)))))
			f.ReplicaCores = fits(e.Replicas/float64(f.Replicas), lim)
		}
		return f, e, nil
	}
}

// shares of what can give out.
func shares(e *Expectation, f Fleet, lim Limits) map[string]float64 {
	s := map[string]float64{
		TheWalsender: e.Walsender,
		TheFeed:      e.Feed,
		TheHolder:    e.Holder,
		ThePrimary:   e.Primary / float64(f.PrimaryCores),
	}
	if f.Relay {
		s[TheBus] = max(e.Bus/float64(f.BusCores), e.BusBytes/lim.BusBytes)
	}
	return s
}

var canGiveOut = []string{ThePrimary, TheWalsender, TheFeed, TheHolder, TheBus}

func tightest(e *Expectation, f Fleet, lim Limits) (name string, used float64) {
	all := shares(e, f, lim)
	for _, n := range canGiveOut {
		if all[n] > used {
			name, used = n, all[n]
		}
	}
	return name, used
}

// fits is the least size for so many CPUs.
func fits(cpus float64, lim Limits) int {
	for _, size := range lim.PrimaryCores {
		if cpus <= lim.Busy*float64(size) {
			return size
		}
	}
	return lim.PrimaryCores[len(lim.PrimaryCores)-1]
}

// Breaks is how many clients there may be, at most, with one database before each thing
// gives out, by bisection; what holds out for a billion isn't in it.
func Breaks(c Costs, load func(clients int) Load, want Fleet, lim Limits) (map[string]int, error) {
	const most = 1_000_000_000
	at := func(clients int) (map[string]float64, error) {
		f, e, err := Nodes(c, load(clients), want, lim)
		if err != nil {
			return nil, err
		}
		return shares(e, f, lim), nil
	}
	breaks := map[string]int{}
	for _, name := range canGiveOut {
		low, high := 100, most
		s, err := at(high)
		if err != nil {
			return nil, err
		}
		if s[name] <= lim.Busy {
			continue
		}
		for high > low+low/100 {
			middle := int(math.Sqrt(float64(low) * float64(high)))
			if s, err = at(middle); err != nil {
				return nil, err
			}
			if s[name] <= lim.Busy {
				low = middle
			} else {
				high = middle
			}
		}
		breaks[name] = low
	}
	return breaks, nil
}
