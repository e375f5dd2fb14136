package sim

// streams are those of the detailed node: who follows what, and what was told when.
type streams struct {
	*run

	cpu       *station
	of        map[int][]int32 // topic → streams that follow it
	until     []float64       // per stream: no frame before
	dirty     [][]change      // per stream: what waits for its throttle
	changed   map[int]float64 // per topic: when this node last heard of a commit of it
	frames    int
	notices   int // what would have been a frame each without a throttle
	told      quantiles
	refetched func(stream int32, c change) // nil: clients don't refetch
}

// change is a topic's latest commit, as a stream is told of it.
type change struct {
	topic int
	at    float64 // when its COMMIT returned
	heard float64 // when the node heard of it
}

// atOnce is how many frames are one job: the pumps share what there is to tell.
const atOnce = 32

// newStreams gives the node its share of clients.
func newStreams(r *run) *streams {
	n := (r.load.Clients + r.fleet.Nodes - 1) / r.fleet.Nodes
	s := &streams{
		run: r, cpu: newStation(r.clock, r.fleet.Cores), of: map[int][]int32{}, changed: map[int]float64{},
		until: make([]float64, n), dirty: make([][]change, n),
	}
	topics := r.load.topics()
	own := topics // that have followers here alone
	if r.fleet.Affinity {
		own = max(1, topics/r.fleet.Nodes)
	}
	// Each topic has as many followers; which of them are here is by chance.
	for i := range n * r.load.Topics {
		stream := int32(i / r.load.Topics) //nolint:gosec // far below 2³¹
		var topic int
		switch here := r.fleet.Affinity || r.fleet.Nodes == 1; {
		case here && r.load.Topics == 1: // exactly as many for each
			topic = i % own
		case here:
			topic = r.clock.rand.IntN(own)
		default:
			topic = r.clock.rand.IntN(topics)
		}
		s.of[topic] = append(s.of[topic], stream)
	}
	return s
}

// publish tells a batch of commits to those who follow their topics.
func (s *streams) publish(batch []commit) {
	for _, c := range batch {
		followers := s.of[c.topic]
		now := s.clock.now
		s.changed[c.topic] = now
		if len(followers) == 0 {
			continue
		}
		s.cpu.used += s.costs.Tell * micro // before the first of its frames
		s.notices += len(followers)
		news := change{c.topic, c.at, now}
		var group []int32
		for _, stream := range followers {
			switch {
			case len(s.dirty[stream]) > 0: // waits already
				s.mark(stream, news)
			case s.until[stream] > now:
				s.mark(stream, news)
				s.clock.after(s.until[stream]-now, func() {
					marked := s.dirty[stream]
					s.dirty[stream] = nil
					s.tell([]int32{stream}, marked)
				})
			default:
				s.until[stream] = now + s.load.Throttle
				if group = append(group, stream); len(group) == atOnce {
					s.tell(group, []change{news})
					group = nil
				}
			}
		}
		s.tell(group, []change{news})
	}
}

// mark notes a change for later; a second one of a topic takes the first one's place,
// but who waits has waited since the first.
func (s *streams) mark(stream int32, news change) {
	for i := range s.dirty[stream] {
		if d := &s.dirty[stream][i]; d.topic == news.topic {
			d.heard = news.heard
			return
		}
	}
	s.dirty[stream] = append(s.dirty[stream], news)
}

// tell writes a frame to each of some streams, with all the changes.
func (s *streams) tell(to []int32, changes []change) {
	if len(to) == 0 {
		return
	}
	s.frames += len(to)
	for _, stream := range to {
		s.until[stream] = s.clock.now + s.load.Throttle
	}
	s.cpu.serve(float64(len(to))*s.costs.Frame*micro, func() {
		for _, stream := range to {
			for _, c := range changes {
				s.told.add(s.clock.now - c.at)
				if s.refetched != nil {
					s.clock.after(2*s.costs.Network*micro, func() { s.refetched(stream, c) })
				}
			}
		}
	})
}

func (s *streams) reset() {
	s.cpu.reset()
	s.frames, s.notices, s.told = 0, 0, quantiles{}
}
