package check

import "time"

// JudgeWindows is Judge of a history that comes in windows.
func JudgeWindows(windows ...*History) []Verdict {
	j := newJudge()
	for _, h := range windows {
		j.take(h)
	}
	return j.verdicts
}

// Planned is a fault of a schedule.
type Planned struct {
	Name          string
	After, Length time.Duration
}

// Schedule deals n faults of all there are.
func Schedule(seed uint64, n int) []Planned {
	s := newSchedule(seed, faults)
	var all []Planned
	for range n {
		p := s.next()
		all = append(all, Planned{p.name, p.after, p.length})
	}
	return all
}

// Summarize is what a report says of values.
func Summarize(values []time.Duration) Latency {
	var m measured
	for _, v := range values {
		m.add(v)
	}
	return m.summary()
}
