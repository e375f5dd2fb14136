package sim

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// poisson runs a station at a rate of jobs that come at random.
func poisson(s *station, rate, seconds float64, takes func() float64) {
	var come func()
	come = func() {
		s.serve(takes(), nil)
		s.clock.after(s.clock.exponential(1/rate), come)
	}
	s.clock.after(0, come)
	s.clock.run(seconds / 10) // warm
	s.reset()
	s.clock.run(s.clock.now + seconds)
}

// Waiting is that of the textbook: the mean of M/M/1 is ρ/(μ−λ), of M/D/1 half of it; of
// those that wait in M/M/1, the time is exponential.
func TestStation_closedForms(t *testing.T) {
	const mean = 1e-3
	for _, load := range []float64{0.3, 0.6, 0.8, 0.9} {
		rate := load / mean
		markov := load / (1/mean - rate)

		c := newClock(1)
		s := newStation(c, 1)
		poisson(s, rate, 1000, func() float64 { return c.exponential(mean) })
		require.InEpsilon(t, markov, s.waits.mean(), 0.06, "M/M/1 at %v", load)
		require.InEpsilon(t, load, s.used/1000, 0.02)
		// P(W > t) = ρ exp(−(μ−λ)t)
		require.InEpsilon(t, math.Log(load/0.01)/(1/mean-rate), s.waits.at(0.99), 0.08, "p99 of M/M/1 at %v", load)

		c = newClock(2)
		s = newStation(c, 1)
		poisson(s, rate, 600, func() float64 { return mean })
		require.InEpsilon(t, markov/2, s.waits.mean(), 0.06, "M/D/1 at %v", load)
	}
}

// M/M/c: the share that waits is Erlang's C.
func TestStation_severalServers(t *testing.T) {
	const mean, servers, load = 1e-3, 8, 0.85
	rate := load * servers / mean
	c := newClock(3)
	s := newStation(c, servers)
	poisson(s, rate, 150, func() float64 { return c.exponential(mean) })
	offered := load * servers
	sum, term := 0.0, 1.0
	for k := range servers {
		sum += term
		term *= offered / float64(k+1)
	}
	term /= 1 - load
	erlang := term / (sum + term)
	require.InEpsilon(t, erlang*mean/(servers*(1-load)), s.waits.mean(), 0.06)
}

// A server that has to be woken pays for it once per idle time: the share of jobs that
// find it idle is 1−λE(S) over 1+λ·wake of them.
func TestStation_wake(t *testing.T) {
	const takes, wake, rate = 1e-4, 2e-4, 4000.0
	c := newClock(4)
	s := newStation(c, 1)
	s.wake = wake
	poisson(s, rate, 100, func() float64 { return takes })
	idle := (1 - rate*takes) / (1 + rate*wake)
	require.InEpsilon(t, rate*(takes+idle*wake), s.used/100, 0.02)

	c = newClock(5)
	s = newStation(c, 1)
	s.wake, s.nap = wake, 1e-3
	poisson(s, rate, 100, func() float64 { return takes })
	require.InEpsilon(t, rate*awake(rate, takes, wake, 1e-3, 0), s.used/100, 0.02)
	require.Greater(t, rate*awake(rate, takes, wake, 0, 0), 1.2*s.used/100, "a longer nap, fewer of them")

	c = newClock(6)
	s = newStation(c, 1)
	s.wake, s.nap, s.cool = wake, 1e-4, 1e-3
	poisson(s, rate, 100, func() float64 { return takes })
	require.InEpsilon(t, rate*awake(rate, takes, wake, 1e-4, 1e-3), s.used/100, 0.02)
	require.Greater(t, rate*awake(rate, takes, wake, 1e-4, 0), 1.2*s.used/100, "not as cold")
}

func TestClock_order(t *testing.T) {
	c := newClock(1)
	var got []int
	for i := range 20 {
		c.after(float64((i*7)%5), func() { got = append(got, i) })
	}
	c.run(10)
	require.Equal(t, []int{0, 5, 10, 15, 3, 8, 13, 18, 1, 6, 11, 16, 4, 9, 14, 19, 2, 7, 12, 17}, got)
	require.Equal(t, 10.0, c.now)
}

func TestQuantiles(t *testing.T) {
	var q quantiles
	require.True(t, math.IsNaN(q.at(0.5)))
	for i := range 1000 {
		q.add(float64(i+1) / 1000)
	}
	require.InEpsilon(t, 0.5, q.at(0.5), 0.02)
	require.InEpsilon(t, 0.99, q.at(0.99), 0.02)
	q = quantiles{}
	q.add(0)
	require.Zero(t, q.at(0.99))
}
