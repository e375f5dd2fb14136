package check

import (
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

func summarize(values []time.Duration) Latency {
	l := Latency{N: len(values)}
	if len(values) == 0 {
		return l
	}
	slices.Sort(values)
	l.Min, l.Max = values[0], values[len(values)-1]
	l.P50, l.P99, l.P999 = quantile(values, 0.5), quantile(values, 0.99), quantile(values, 0.999)
	l.Buckets = make([]int, buckets)
	i := 0
	for _, v := range values {
		for i < buckets-1 && v > bucketEnd(i) {
			i++
		}
		l.Buckets[i]++
	}
	return l
}

// quantile is the nearest-rank one: a value that was measured.
func quantile(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// latencies measures, for each client named and each commit of a known position
// on its topics: until the first notice that tells it, and until the first
// answer that the client keeps and that shows it. Commits that happened while
// the client wasn't listening, or napped before it had the answer, don't count.
func latencies(x *index, names []string) (notice, data Latency) {
	var notices, answers []time.Duration
	for _, name := range names {
		frames := x.frames[name]
		for _, topic := range followed(frames) {
			told := slices.DeleteFunc(slices.Clone(frames), func(f Frame) bool {
				return f.Kind == Invalidate && !slices.Contains(f.Topics, topic)
			})
			kept := slices.DeleteFunc(slices.Clone(x.reads[name]), func(r *Read) bool { return !r.Kept || r.Conversation != topic })
			f, k := 0, 0
			live := time.Duration(-1) // since when the client has been listening; negative: it isn't
			for _, w := range x.writesOn[topic] {
				if w.At.IsZero() {
					continue
				}
				for ; f < len(told) && (told[f].Kind != Invalidate || told[f].Revision.Less(w.At)); f++ {
					switch told[f].Kind {
					case Ready:
						live = told[f].At
					case Subscribe, Connected, Disconnected, Reset:
						live = -1
					case Invalidate, Heartbeat:
					}
				}
				if f == len(told) {
					break
				}
				if live < 0 || live > w.Sent {
					continue
				}
				notices = append(notices, told[f].At-w.Done)
				for k < len(kept) && (kept[k].End < told[f].At || !x.shows(kept[k], w)) {
					k++
				}
				if k < len(kept) {
					answers = append(answers, kept[k].End-w.Done)
				}
			}
		}
	}
	return summarize(notices), summarize(answers)
}

func followed(frames []Frame) []string {
	for _, f := range frames {
		if f.Kind == Subscribe {
			return f.Topics
		}
	}
	return nil
}
