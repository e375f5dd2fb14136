package main

import "github.com/freshet-dev/freshet/bench/scale/sim"

// scenario is what clients do, by their number.
type scenario struct {
	name, about string
	load        func(clients int) sim.Load
	best        variant
}

func freshetLoad(l sim.Load) sim.Load {
	l.Refetch, l.ByCalls = true, true
	l.Throttle, l.ReadPace, l.ProbeEach = 0.1, 0.1, 0.01 // defaults
	return l
}

var scenarios = []scenario{
	{
		"rooms", "each client is in one room of 20, and writes every 100 s",
		func(clients int) sim.Load {
			return freshetLoad(sim.Load{Clients: clients, Topics: 1, Followers: 20, Commits: float64(clients) / 100})
		},
		all,
	},
	{
		"desks", "each client has 5 lists on its page, each of a team of 50, and writes every 10 minutes",
		func(clients int) sim.Load {
			return freshetLoad(sim.Load{Clients: clients, Topics: 5, Followers: 50, Commits: float64(clients) / 600})
		},
		all,
	},
	{
		"hall", "each client looks at one of a hundred pages; 10 commits a second change one of them each",
		func(clients int) sim.Load {
			return freshetLoad(sim.Load{Clients: clients, Topics: 1, Followers: max(1, clients/100), Commits: 10})
		},
		spread,
	},
}

// variant is a way to build the fleet.
type variant struct {
	name, about string
	want        sim.Fleet
}

var (
	plain    = variant{"plain", "identical nodes behind any balancer", sim.Fleet{}}
	replicas = variant{"replicas", "the same, and statements go to replicas (`--replica-url`)", sim.Fleet{Replicas: 1}}
	affinity = variant{"affinity", "identical nodes; the balancer has followers of one topic on one node", sim.Fleet{Affinity: true}}
	relay    = variant{"relay", "one node decodes for all, by a message bus (NATS)", sim.Fleet{Relay: true}}
	all      = variant{"all", "replicas, affinity and a relay", sim.Fleet{Replicas: 1, Affinity: true, Relay: true}}

	// A topic that has more followers than a node takes is better spread over all: they
	// are told, and answered, by all of them at once.
	spread = variant{"spread", "replicas and a relay, behind any balancer", sim.Fleet{Replicas: 1, Relay: true}}

	variants = []variant{plain, replicas, affinity, relay, spread, all}
)

// limits are machines to be had, and how far they are used.
var limits = sim.Limits{
	Busy: 0.6, StreamsPerNode: 50_000, NodeCores: 4, NodeGiB: 16,
	PrimaryCores: []int{2, 4, 8, 16, 32, 64}, BusCores: 4, BusBytes: 12.5e9 / 8,
}

// prices are in US dollars, without tax, discount or support.
//
// Machines: $0.0816 an hour for m7g.large (2 vCPU, 8 GiB, Linux, us-east-1, on demand),
// whose larger sizes cost in proportion to their vCPUs. Traffic: to the internet from
// us-east-1. Both are AWS' list prices as of June 2026, as reported by
// factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026 and
// atonementlicensing.com/blog/aws-egress-negotiation; AWS' own pages couldn't be
// reached from where this was written.
type prices struct {
	CPUHour float64   `json:"cpu_hour"`
	Out     []outTier `json:"out"`
}

// outTier is the price of what goes out in a month, up to so many TB; 0: without end.
type outTier struct{ TB, PerGB float64 }

var listPrices = prices{CPUHour: 0.0816 / 2, Out: []outTier{{10, 0.09}, {40, 0.085}, {100, 0.07}, {0, 0.05}}}

const (
	hoursOfMonth = 730
	busServers   = 3
)

// money is what a plan costs in a month.
type money struct{ Nodes, Database, Bus, Traffic float64 }

func (m money) machines() float64 { return m.Nodes + m.Database + m.Bus }

func (p prices) month(plan *sim.Plan, lim sim.Limits) money {
	shards, f := float64(plan.Shards), plan.Fleet
	cpus := func(n int) float64 { return shards * float64(n) * p.CPUHour * hoursOfMonth }
	m := money{
		Nodes:    cpus(f.Nodes * lim.NodeCores),
		Database: cpus(2*f.PrimaryCores + f.Replicas*f.ReplicaCores), // a stand-by, of the primary's size
		Traffic:  p.traffic(shards * plan.Expect.ToClients * hoursOfMonth * 3600),
	}
	if f.Relay {
		m.Bus = cpus(busServers * f.BusCores)
	}
	return m
}

func (p prices) traffic(bytes float64) (dollars float64) {
	left := bytes / 1e9
	for _, tier := range p.Out {
		part := left
		if tier.TB > 0 {
			part = min(left, tier.TB*1000)
		}
		dollars += part * tier.PerGB
		left -= part
	}
	return dollars
}
