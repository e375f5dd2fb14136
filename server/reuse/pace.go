package reuse

import "time"

// The pace bounds how often one read is queried for those who are told of the same
// changes (G7). Each of its queries is charged one interval to the lane, and time
// pays that off: lane.paid is when nothing will be owed. A query starts at once
// while fewer than burst are owed; above that, when enough of them is paid. So a
// read that is asked for now and then never waits, and one that is asked for
// without end is queried once per interval.
//
// Only a query that several clients are after is charged: requests have joined it,
// or more than one stream follows what it reads, whose clients refetch whether or
// not they happen to meet here. Who reads alone can't be served by anybody else's
// query, and is not held back.
//
// A strong read waits for no turn, and takes along all who wait. Its query isn't
// charged, or strong reads would put off the others without end.

// burst is how many queries of one read may be owed for before the next one waits.
const burst = 10

// count charges a query that several are after, once. The caller holds mu.
func (t *flights) count(l *lane, f *flight) {
	if t.interval <= 0 || f.counted || f.strong {
		return
	}
	f.counted = true
	if now := time.Now(); l.paid.Before(now) {
		l.paid = now
	}
	l.paid = l.paid.Add(t.interval)
}

// advance lets what waits take off when it is its turn, and forgets a lane that
// has nothing left to do. The caller holds mu; nothing of the lane is running.
func (t *flights) advance(key readKey, l *lane) {
	if l.turn != nil {
		l.turn.Stop()
		l.turn = nil
	}
	now := time.Now()
	from := l.paid // when the lane may be forgotten
	if l.waiting != nil {
		from = from.Add(-(burst - 1) * t.interval) // when it may go on
	}
	switch {
	case from.After(now) && (l.waiting == nil || !l.waiting.strong):
		l.turn = time.AfterFunc(from.Sub(now), func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.lanes[key] == l && l.running == nil {
				t.advance(key, l)
			}
		})
	case l.waiting == nil:
		delete(t.lanes, key)
	default:
		f := l.waiting
		l.running, l.waiting = f, nil
		if f.waiters > 1 || t.node.Followers(f.topics) > 1 {
			t.count(l, f)
		}
		t.takeOff(key, f)
	}
}
