package sim

// run is one simulation.
type run struct {
	clock *clock
	costs Costs
	load  Load
	fleet Fleet

	primary, replicas, bus *station
	node                   *streams
	reads                  *reads
	feed                   *feed
	apply                  *station // of a follower of the relay
	others                 map[int]*elsewhere

	commits   int
	gates     int     // snapshots of all nodes
	elsewhere int     // statements of other nodes
	senders   float64 // CPU time of other nodes' walsenders
}

// elsewhere is what other nodes do about a topic.
type elsewhere struct {
	nodes int // of them that have followers of it
	pace  pace
}

// Result is what a simulation found. CPU times are seconds of CPU per second, of the
// detailed node's or of all, as it says. A time that nobody waited for is NaN.
type Result struct {
	Commits, Frames, Notices, Calls, Statements float64 // a second, on the node
	AllStatements, Snapshots                    float64 // a second, of all nodes

	Feed, Streams                 float64 // CPUs of the node: its feed, and all the rest
	Walsender                     float64 // CPUs of the node's own
	Walsenders, Gates             float64 // CPUs of all nodes'
	Primary, PrimaryOf            float64 // CPUs of the primary in all, and as a share of what it has
	Replica                       float64 // share of what replicas have
	Bus                           float64 // share of what the bus has
	ToldP50, ToldP99, ToldMost    float64 // from COMMIT's return to the frame in the socket, seconds
	FreshP50, FreshP99, FreshMost float64 // from COMMIT's return to refetched data
}

// Run simulates for some seconds, after a tenth of it and at least one throttle that
// don't count. Everything is as the seed is.
func Run(seed uint64, c Costs, l Load, f Fleet, seconds float64) (*Result, error) {
	if err := check(l, f); err != nil {
		return nil, err
	}
	r := &run{clock: newClock(seed), costs: c, load: l, fleet: f, others: map[int]*elsewhere{}}
	r.primary = newStation(r.clock, f.PrimaryCores)
	if f.Replicas > 0 {
		r.replicas = newStation(r.clock, f.Replicas*f.ReplicaCores)
	}
	r.node = newStreams(r)
	r.reads = newReads(r, r.node.cpu)
	if l.Refetch {
		r.node.refetched = r.reads.call
	}
	publish := r.node.publish
	if f.Relay {
		r.bus, r.apply = newStation(r.clock, f.BusCores), newStation(r.clock, 1)
		publish = r.relay
	}
	r.feed = newFeed(r, func(batch []commit) {
		publish(batch)
		r.elsewhereTold(batch)
	})
	r.background()
	r.write()

	r.clock.run(seconds/10 + l.Throttle)
	for _, s := range []*station{r.primary, r.replicas, r.bus, r.apply} {
		if s != nil {
			s.reset()
		}
	}
	r.node.reset()
	r.reads.reset()
	r.feed.reset()
	r.commits, r.gates, r.elsewhere, r.senders = 0, 0, 0, 0
	r.clock.run(r.clock.now + seconds)
	return r.result(seconds), nil
}

// write has commits written, for ever.
func (r *run) write() {
	topics := r.load.topics()
	var next func()
	next = func() {
		c := commit{topic: r.clock.rand.IntN(topics)}
		if r.load.ByCalls && r.clock.rand.IntN(r.fleet.Nodes) == 0 {
			r.node.cpu.serve(r.costs.WriteCall*micro, nil)
		}
		r.primary.serve(r.costs.Write*micro, func() {
			r.clock.after(r.costs.Flush*micro, func() {
				r.commits++
				c.at = r.clock.now
				r.feed.written(c)
			})
		})
		gap := 1 / r.load.Commits
		if !r.load.Even {
			gap = r.clock.exponential(gap)
		}
		r.clock.after(gap, next)
	}
	r.clock.after(0, next)
}

// background is what goes on whether or not the detailed node does anything.
func (r *run) background() {
	if r.load.ProbeEach > 0 {
		for range r.fleet.Nodes { // who is told by a relay looks, too
			r.clock.every(r.load.ProbeEach, func() { r.primary.serve(r.costs.Probe*micro, nil) })
		}
	}
	// Other nodes' walsenders: each does what came within a millisecond.
	if others := r.feeds() - 1; others > 0 {
		perMS := r.load.Commits * millisecond * senderCost(r.costs, r.load.Commits)
		r.clock.every(millisecond, func() {
			for range others {
				r.senders += perMS
				r.primary.serve(perMS, nil)
			}
		})
	}
}

// feeds is how many nodes decode.
func (r *run) feeds() int {
	if r.fleet.Relay {
		return 1
	}
	return r.fleet.Nodes
}

// relay has a frame go over the bus to all nodes but the one that decodes.
func (r *run) relay(batch []commit) {
	r.feed.decoder.used += r.costs.Relay * micro
	kb := r.costs.RelayBytes * float64(len(batch)) / 1000
	out := (r.costs.BusOut + r.costs.BusKB*kb) * micro
	to := r.fleet.Nodes - 1
	half := r.costs.RoundTrip * micro / 2
	before := 0
	if to > 0 {
		before = r.clock.rand.IntN(to) // nodes that are sent it before ours
	}
	r.clock.after(half, func() {
		r.bus.serve(r.costs.BusIn*micro+out*float64(before+1), func() {
			r.clock.after(half, func() {
				r.apply.serve((r.costs.ApplyWake+r.costs.Apply*float64(len(batch)))*micro, func() { r.node.publish(batch) })
			})
		})
		if rest := to - before - 1; rest > 0 {
			r.bus.serve(out*float64(rest), nil)
		}
	})
}

// elsewhereTold has the other nodes' clients refetch what was told there.
func (r *run) elsewhereTold(batch []commit) {
	if !r.load.Refetch || r.fleet.Nodes == 1 {
		return
	}
	for _, c := range batch {
		e := r.others[c.topic]
		if e == nil {
			e = &elsewhere{nodes: r.occupied(c.topic)}
			r.others[c.topic] = e
		}
		if e.nodes == 0 {
			continue
		}
		wait := 0.0
		if r.load.Followers > 1 {
			if e.pace.due-r.clock.now > r.load.ReadPace {
				continue // a statement that is still to begin serves this one too
			}
			wait = e.pace.take(r.clock.now, r.load.ReadPace)
		}
		for range e.nodes {
			r.elsewhere++
			r.clock.after(wait+2*r.costs.Network*micro+r.clock.rand.Float64()*millisecond, func() {
				r.database().serve(r.costs.Statement*micro, nil)
			})
		}
	}
}

// occupied draws how many other nodes have followers of a topic.
func (r *run) occupied(topic int) int {
	here := len(r.node.of[topic])
	if r.fleet.Affinity {
		return min(1, max(0, 1-here))
	}
	others := r.fleet.Nodes - 1
	there := max(0, r.load.Followers-here)
	if there > 40*others {
		return others
	}
	seen := make([]bool, others)
	n := 0
	for range there {
		if at := r.clock.rand.IntN(others); !seen[at] {
			seen[at] = true
			n++
		}
	}
	return n
}

func (r *run) result(seconds float64) *Result {
	per := func(n int) float64 { return float64(n) / seconds }
	n := r.node
	res := &Result{
		Commits: per(r.commits), Frames: per(n.frames), Notices: per(n.notices), Calls: per(r.reads.calls), Statements: per(r.reads.statements),
		AllStatements: per(r.reads.statements + r.elsewhere), Snapshots: per(r.gates),
		Walsender: r.feed.walsender.used / seconds, Gates: float64(r.gates) * r.costs.Gate * micro / seconds,
		Feed:    r.feed.decoder.used / seconds,
		Streams: n.cpu.used/seconds + (r.costs.Idle+r.costs.Heartbeat*float64(len(n.until)))*micro,
		ToldP50: n.told.at(0.5), ToldP99: n.told.at(0.99), ToldMost: n.told.at(1),
		FreshP50: r.reads.fresh.at(0.5), FreshP99: r.reads.fresh.at(0.99), FreshMost: r.reads.fresh.at(1),
	}
	res.Walsenders = res.Walsender + r.senders/seconds
	res.Primary = r.primary.used/seconds + res.Walsender
	res.PrimaryOf = res.Primary / float64(r.fleet.PrimaryCores)
	if r.replicas != nil {
		res.Replica = r.replicas.used / seconds / float64(r.replicas.servers)
	}
	if r.bus != nil {
		res.Bus = r.bus.used / seconds / float64(r.bus.servers)
		res.Feed = r.apply.used / seconds // a follower's
	}
	return res
}
