package sim

// feed is the way of commits from the primary into a node: a walsender, the decoder and
// the gate. The node may be the detailed one, or the holder of a relay.
type feed struct {
	*run

	walsender *station // one process, whose CPU is the primary's
	decoder   *station // one goroutine after the other
	arrived   []commit // decoded, not shown by a snapshot yet
	asking    bool
	gathering bool
	publish   func([]commit) // what the gate lets through

	snapshots int
}

type commit struct {
	topic int
	at    float64 // when its COMMIT returned
}

func newFeed(r *run, publish func([]commit)) *feed {
	f := &feed{run: r, walsender: newStation(r.clock, 1), decoder: newStation(r.clock, 1), publish: publish}
	f.walsender.wake, f.decoder.wake = r.costs.WalsenderWake*micro, r.costs.Wake*micro
	for _, s := range []*station{f.walsender, f.decoder} {
		s.nap, s.cool = r.costs.Nap*micro, r.costs.Cool*micro
	}
	return f
}

// written is called when a commit has returned.
func (f *feed) written(c commit) {
	f.walsender.serve(f.costs.Walsender*micro, func() {
		f.clock.after(f.costs.RoundTrip*micro/2, func() {
			f.decoder.serve(f.costs.Decode*micro, func() {
				f.arrived = append(f.arrived, c)
				f.ask()
			})
		})
	})
}

// ask has a snapshot taken for what has arrived, unless one is under way: then what
// arrives meanwhile is for the next.
func (f *feed) ask() {
	if f.gathering || len(f.arrived) == 0 {
		return
	}
	if while := gather(f.load.Commits); while > 0 {
		f.gathering = true
		f.clock.after(while, func() {
			f.gathering = false
			f.snapshot()
		})
		return
	}
	f.snapshot()
}

func (f *feed) snapshot() {
	if f.asking {
		return
	}
	f.asking = true
	f.snapshots++
	batch := f.arrived
	f.arrived = nil
	f.decoder.used += f.costs.GateAsk * micro // beside what it decodes
	half := f.costs.RoundTrip * micro / 2
	if f.fleet.Relay {
		f.gates++
	} else {
		f.gates += f.fleet.Nodes
		for range f.fleet.Nodes - 1 { // other nodes' feeds do the same, at other moments
			f.clock.after(f.clock.rand.Float64()*millisecond, func() { f.primary.serve(f.costs.Gate*micro, nil) })
		}
	}
	f.clock.after(half, func() {
		f.primary.serve(f.costs.Gate*micro, func() {
			f.clock.after(half, func() {
				f.asking = false
				f.publish(batch)
				f.ask()
			})
		})
	})
}

func (f *feed) reset() {
	f.walsender.reset()
	f.decoder.reset()
	f.snapshots = 0
}

const millisecond = 1e-3
