package sim

import "math/rand/v2"

// clock is the time of a simulation, in seconds from its start, and what is still to
// happen in it. What is due at the same time happens in the order in which it was
// asked for, so that a run depends on its seed alone.
type clock struct {
	now    float64
	events []event // a heap with four children each: less deep than one of two
	asked  uint64
	rand   *rand.Rand
}

type event struct {
	at    float64
	order uint64
	do    func()
}

func newClock(seed uint64) *clock {
	return &clock{rand: rand.New(rand.NewPCG(seed, 0x5ca1e))} //nolint:gosec // a simulation
}

const children = 4

func (e *event) before(other *event) bool {
	return e.at < other.at || e.at == other.at && e.order < other.order
}

// after has do called in a while; a negative one is none.
func (c *clock) after(while float64, do func()) {
	c.asked++
	c.events = append(c.events, event{c.now + max(0, while), c.asked, do})
	i := len(c.events) - 1
	for i > 0 {
		parent := (i - 1) / children
		if !c.events[i].before(&c.events[parent]) {
			return
		}
		c.events[i], c.events[parent] = c.events[parent], c.events[i]
		i = parent
	}
}

// run lets happen what is due until then.
func (c *clock) run(until float64) {
	for len(c.events) > 0 && c.events[0].at <= until {
		next := c.pop()
		c.now = next.at
		next.do()
	}
	c.now = until
}

func (c *clock) pop() event {
	top, last := c.events[0], len(c.events)-1
	c.events[0] = c.events[last]
	c.events[last] = event{}
	c.events = c.events[:last]
	for i := 0; ; {
		least := i
		for child := children*i + 1; child <= children*i+children && child < last; child++ {
			if c.events[child].before(&c.events[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		c.events[i], c.events[least] = c.events[least], c.events[i]
		i = least
	}
}

// exponential is a time of that mean.
func (c *clock) exponential(mean float64) float64 { return mean * c.rand.ExpFloat64() }

// every has do called at even intervals, the first of them after a random part of one.
func (c *clock) every(interval float64, do func()) {
	var again func()
	again = func() {
		do()
		c.after(interval, again)
	}
	c.after(interval*c.rand.Float64(), again)
}
