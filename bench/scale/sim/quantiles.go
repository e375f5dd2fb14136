package sim

import "math"

// quantiles counts times in buckets that are 2 % wide, from a tenth of a microsecond on;
// what is less counts as nothing. The zero value is empty.
type quantiles struct {
	counts []int
	zero   int
	n      int
	sum    float64
}

const (
	leastTime = 1e-7
	growth    = 1.02
)

func (q *quantiles) add(seconds float64) {
	q.n++
	q.sum += seconds
	if seconds < leastTime {
		q.zero++
		return
	}
	i := int(math.Log(seconds/leastTime) / math.Log(growth))
	for len(q.counts) <= i {
		q.counts = append(q.counts, 0)
	}
	q.counts[i]++
}

// mean is NaN of nothing.
func (q *quantiles) mean() float64 { return q.sum / float64(q.n) }

// at is the time below which that share of all is: the upper end of its bucket. It is
// NaN of nothing.
func (q *quantiles) at(share float64) float64 {
	if q.n == 0 {
		return math.NaN()
	}
	below := q.zero
	rank := share * float64(q.n)
	if float64(below) >= rank {
		return 0
	}
	for i, count := range q.counts {
		if below += count; float64(below) >= rank {
			return leastTime * math.Pow(growth, float64(i+1))
		}
	}
	return leastTime * math.Pow(growth, float64(len(q.counts)))
}
