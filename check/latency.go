package check

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Latency describes one quantity. Durations count from the moment at which the
// writer had COMMIT's answer, so that they can be negative.
type Latency struct {
	N                        int
	P50, P99, P999, Max, Min time.Duration
	// Buckets counts by powers of two of 1/8 ms: the first holds all up to
	// 0.125 ms, the next up to 0.25 ms, and so on.
	Buckets []int
}

const buckets = 18 // the last ends at 16.4 s, and holds all above

func bucketEnd(i int) time.Duration { return time.Millisecond / 8 << i }

// measured counts values by what they are to a fifth of a percent, so that a
// long run needs no more memory than a short one. The zero value is empty.
type measured struct {
	counts   map[time.Duration]int
	n        int
	min, max time.Duration
}

func (m *measured) add(v time.Duration) {
	if m.counts == nil {
		m.counts = map[time.Duration]int{}
	}
	if m.n == 0 {
		m.min, m.max = v, v
	}
	m.n++
	m.min, m.max = min(m.min, v), max(m.max, v)
	m.counts[coarse(v)]++
}

// coarse drops the digits that nobody reads.
func coarse(v time.Duration) time.Duration {
	step := time.Microsecond
	for limit := 500 * time.Microsecond; v.Abs() >= limit; limit *= 10 {
		step *= 10
	}
	return v.Round(step / 10)
}

func (m *measured) summary() Latency {
	l := Latency{N: m.n, Min: m.min, Max: m.max}
	if m.n == 0 {
		return l
	}
	l.Buckets = make([]int, buckets)
	seen, bucket := 0, 0
	for _, v := range slices.Sorted(maps.Keys(m.counts)) {
		count := m.counts[v]
		for bucket < buckets-1 && v > bucketEnd(bucket) {
			bucket++
		}
		l.Buckets[bucket] += count
		for _, q := range []struct {
			at    float64
			value *time.Duration
		}{{0.5, &l.P50}, {0.99, &l.P99}, {0.999, &l.P999}} {
			if rank := nearest(m.n, q.at); seen < rank && rank <= seen+count {
				*q.value = min(max(v, m.min), m.max)
			}
		}
		seen += count
	}
	return l
}

// nearest is the nearest rank of a quantile, from 1.
func nearest(n int, q float64) int {
	return min(max(int(math.Ceil(q*float64(n)-1e-9)), 1), n)
}

// delays are both latencies of some commits.
type delays struct{ notice, data measured }

// latencies measures a window: for each client named and each of its commits of
// a known position on its topics, until the first notice that tells it, and until the
// first answer that the client keeps and that shows it. Commits that happened while
// the client wasn't listening, or napped before it had the answer, don't count.
// Those that a fault may have delayed are told apart.
func (x *index) latencies(names []string, faults []Caused, quiet, disturbed *delays) {
	into := func(from, to time.Duration) *delays {
		for _, f := range faults {
			const after = 3 * time.Second // as long as its effects last, as a rule
			if f.At <= to && from <= f.At+f.Took+after {
				return disturbed
			}
		}
		return quiet
	}
	for _, name := range names {
		frames := x.frames[name]
		l := x.listeners[name]
		if l == nil {
			continue
		}
		since, known := x.live[name]
		if !known {
			since = notLive
		}
		for _, topic := range l.subscribe.Topics {
			if kindOf(topic) == OfPlace {
				x.latency(name, topic, since, into)
			}
		}
		for _, f := range frames {
			since = f.live(since)
		}
		x.live[name] = since
	}
}

// notLive stands for the time since when a client has been listening, if it isn't.
const notLive = time.Duration(-1)

// live is since when a client has been listening, after the frame.
func (f *Frame) live(since time.Duration) time.Duration {
	switch f.Kind {
	case Ready:
		return f.At
	case Subscribe, Connected, Disconnected, Reset:
		return notLive
	case Invalidate, Heartbeat, Part:
	}
	return since
}

func (x *index) latency(name, topic string, live time.Duration, into func(from, to time.Duration) *delays) {
	told := slices.DeleteFunc(slices.Clone(x.frames[name]), func(f Frame) bool {
		return f.Kind == Invalidate && !slices.Contains(f.Topics, topic)
	})
	kept := slices.DeleteFunc(slices.Clone(x.reads[name]), func(r *Read) bool { return !r.Kept || r.Topic != topic })
	f, k := 0, 0
	for _, w := range x.fresh[topic] {
		if w.At.IsZero() {
			continue
		}
		for ; f < len(told) && (told[f].Kind != Invalidate || told[f].Revision.Less(w.At)); f++ {
			live = told[f].live(live)
		}
		if f == len(told) {
			break
		}
		if live < 0 || live > w.Sent {
			continue
		}
		d := into(w.Sent, told[f].At)
		d.notice.add(told[f].At - w.Done)
		for k < len(kept) && (kept[k].End < told[f].At || !x.shows(kept[k], w)) {
			k++
		}
		if k < len(kept) {
			d.data.add(kept[k].End - w.Done)
		}
	}
}
