package sim

// reads are the answers that the detailed node has kept or asks for: one key per topic.
type reads struct {
	*run

	cpu        *station
	keys       map[int]*key
	calls      int
	statements int
	fresh      quantiles // from COMMIT's return to the answer
}

// key is what is known of one read. A call asks for an answer that began no earlier
// than the node heard of what it was told: a kept one, or that of the flight in the air
// or of the next.
type key struct {
	kept    float64 // when the kept answer's statement began; below 0: there is none
	began   float64 // of the flight in the air
	flying  bool
	waiting []change // for it
	planned bool
	next    []change // waiting for the next one
	pace    pace
}

func newReads(r *run, cpu *station) *reads {
	return &reads{run: r, cpu: cpu, keys: map[int]*key{}}
}

// call is a client's refetch of a topic.
func (s *reads) call(_ int32, c change) {
	s.calls++
	k := s.keys[c.topic]
	if k == nil {
		k = &key{kept: -1}
		s.keys[c.topic] = k
	}
	switch {
	case k.kept >= c.heard:
		s.answer(c)
	case k.flying && k.began >= c.heard:
		k.waiting = append(k.waiting, c)
	default:
		k.next = append(k.next, c)
		s.plan(c.topic, k)
	}
}

// plan has the next flight start when it may: one at a time, at the key's pace.
func (s *reads) plan(topic int, k *key) {
	if k.planned || k.flying || len(k.next) == 0 {
		return
	}
	k.planned = true
	wait := 0.0
	if len(s.node.of[topic]) > 1 {
		wait = k.pace.take(s.clock.now, s.load.ReadPace)
	}
	s.clock.after(wait, func() {
		k.planned, k.flying, k.began = false, true, s.clock.now
		k.waiting, k.next = k.next, nil
		s.statements++
		s.cpu.serve(s.costs.Query*micro, func() {
			s.statement(func() { s.landed(topic, k) })
		})
	})
}

func (s *reads) landed(topic int, k *key) {
	k.kept, k.flying = k.began, false
	for _, c := range k.waiting {
		s.answer(c)
	}
	k.waiting = nil
	s.plan(topic, k)
}

func (s *reads) answer(c change) {
	s.cpu.serve(s.costs.Call*micro, func() {
		s.fresh.add(s.clock.now - c.at + s.costs.Network*micro)
	})
}

// statement is one that the node sends, with the way there and back.
func (r *run) statement(done func()) {
	half := r.costs.RoundTrip * micro / 2
	r.clock.after(half, func() {
		r.database().serve(r.costs.Statement*micro, func() { r.clock.after(half, done) })
	})
}

// database is where reads go.
func (r *run) database() *station {
	if r.replicas != nil {
		return r.replicas
	}
	return r.primary
}

func (s *reads) reset() { s.calls, s.statements, s.fresh = 0, 0, quantiles{} }

// pace lets one through per interval on average, after a burst of ten.
type pace struct{ due float64 }

const burst = 10

// take returns how long whoever comes now has to wait.
func (p *pace) take(now, interval float64) float64 {
	p.due = max(p.due, now-burst*interval) + interval
	return max(0, p.due-now)
}
