package sim

import "math"

// station is a queue before some servers that are alike: first come, first served.
type station struct {
	clock   *clock
	servers int
	// wake is what a job takes longer that finds a server idle: a process that sleeps is
	// woken, and its caches are cold, the more so the longer ago it ran: 1−exp(−gap/cool) of
	// wake; cool 0: all of it. nap is how long it takes to be woken, on a machine that has
	// other things to do; who comes meanwhile wakes nobody.
	wake, nap, cool float64
	ran             float64 // when a job ended last

	busy  int
	queue fifo

	used  float64   // time of servers, since reset
	jobs  int       // that have begun, since reset
	waits quantiles // from arrival to begin, since reset
}

type job struct {
	came, takes float64
	done        func()
}

func newStation(c *clock, servers int) *station { return &station{clock: c, servers: servers} }

// serve has done called when a job is through that takes a server so long; done may be
// nil.
func (s *station) serve(takes float64, done func()) {
	j := job{s.clock.now, takes, done}
	if s.busy == s.servers {
		s.queue.push(j)
		return
	}
	s.busy++
	if s.nap == 0 {
		s.wakeFor(j)
		return
	}
	s.clock.after(s.nap, func() { s.wakeFor(j) })
}

func (s *station) wakeFor(j job) {
	if s.cool > 0 {
		j.takes += s.wake * (1 - math.Exp((s.ran-s.clock.now)/s.cool))
	} else {
		j.takes += s.wake
	}
	s.begin(j)
}

func (s *station) begin(j job) {
	s.jobs++
	s.used += j.takes
	s.waits.add(s.clock.now - j.came)
	s.clock.after(j.takes, func() {
		s.ran = s.clock.now
		if next, ok := s.queue.pop(); ok {
			s.begin(next)
		} else {
			s.busy--
		}
		if j.done != nil {
			j.done()
		}
	})
}

// reset forgets what was counted, not who waits.
func (s *station) reset() { s.used, s.jobs, s.waits = 0, 0, quantiles{} }

// fifo is a queue whose memory is used again.
type fifo struct {
	jobs []job
	head int
}

func (q *fifo) push(j job) { q.jobs = append(q.jobs, j) }

func (q *fifo) pop() (j job, ok bool) {
	if q.head == len(q.jobs) {
		return j, false
	}
	j = q.jobs[q.head]
	q.jobs[q.head] = job{}
	q.head++
	if q.head > 1024 && q.head > len(q.jobs)/2 {
		q.jobs = q.jobs[:copy(q.jobs, q.jobs[q.head:])]
		q.head = 0
	}
	return j, true
}

// awake is what a job takes on average that comes at random, at a rate, to one server
// with wake, nap and cool. The share (1−ρ)/(1+λ(wake+nap)) of all wakes it, after an
// exponential time and the nap.
func awake(rate, takes, wake, nap, cool float64) float64 {
	if cool > 0 {
		wake *= 1 - math.Exp(-nap/cool)*rate*cool/(1+rate*cool)
	}
	return takes + wake*max(0, 1-rate*takes)/(1+rate*(wake+nap))
}
