package conformance

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

var toldCases = []Case{
	{Name: "id-promise", Section: Stream, Says: "Before a frame with id R, every change up to R of a subscribed topic has been told.", server: func(t *trial) {
		places := []string{t.place(), t.place(), t.place()}
		query := url.Values{"throttle": {"0"}}
		for _, place := range places {
			query.Add("topic", t.service.topic(place))
		}
		l := t.events(query)
		l.until("ready")
		l.waitForHeartbeats() // a stamp may be above the last notice: then only they pass it
		changes := t.changes(30, places...)
		told := map[string]string{} // the highest revision by topic
		for deadline := time.Now().Add(l.patience); len(changes) > 0; {
			f := l.next("the changes " + changes[0].topic)
			if f.event == "invalidate" {
				for _, topic := range t.topics(f) {
					told[topic] = max(told[topic], t.content(f).Revision)
				}
			}
			for f.id != "" && len(changes) > 0 && changes[0].need <= f.id {
				t.needf(told[changes[0].topic] > changes[0].after, "%s wasn't told before %s", changes[0], f)
				changes = changes[1:]
			}
			t.needf(time.Now().Before(deadline), "within %s the stream didn't come to %s", l.patience, changes)
		}
	}},
	{Name: "ids-never-fall", Section: Stream, Says: "Ids of a stream never go back.", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"1"}})
		l.until("ready")
		for range 5 {
			l.write(place)
		}
		last := ""
		for _, f := range l.seen {
			t.needf(f.id == "" || f.id >= last, "after the id %s came %s", last, f)
			last = max(last, f.id)
		}
	}},
	{Name: "notice-revision", Section: Stream, Says: "these topics changed, the last time at this revision", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"0"}})
		l.until("ready")
		l.write(place)
		f := l.seen[len(l.seen)-1]
		t.needf(f.id == t.content(f).Revision, "the id of a notice isn't its revision: %s", f)
	}},
	{Name: "notice-topics", Section: Stream, Says: "these topics changed, the last time at this revision", server: func(t *trial) {
		one, other := t.place(), t.place()
		l := t.events(url.Values{"topic": {t.service.topic(one), t.service.topic(other)}, "throttle": {"0"}})
		l.until("ready")
		l.write(one)
		l.write(one)
		for _, f := range l.seen {
			t.needf(f.event != "invalidate" || slices.Equal(t.topics(f), []string{t.service.topic(one)}), "only %q was written to: %s", t.service.topic(one), f)
		}
	}},
	{Name: "split-frames", Section: Stream, Says: "A longer list of topics is split: each part says the revision in its data, only the last one carries the id.", server: func(t *trial) {
		const most, writers = 32 << 10, 16
		since := t.position(t.place())
		var places, topics []string
		for size := 0; size < most+most/8; size += len(topics[len(topics)-1]) + len(`"",`) {
			place := t.place()
			places, topics = append(places, place), append(topics, t.service.topic(place))
			t.needf(len(topics) <= 1000, "topics are too short: a frame isn't filled by 1,000 of them")
		}
		t.writeAll(places, writers)
		t.position(places[0])
		l := t.subscribe(subscription{Topics: topics, Since: since})
		parts := slices.DeleteFunc(l.until("ready"), func(f frame) bool { return f.event != "invalidate" })
		t.needf(len(parts) > 1, "%d topics had changed; before ready came %d notices", len(topics), len(parts))
		for i, f := range parts {
			t.needf(f.size <= most, "a frame has %d bytes", f.size)
			t.needf(t.content(f).Revision != "", "part %d has no revision", i+1)
			t.needf((f.id != "") == (i == len(parts)-1), "part %d of %d: id %q", i+1, len(parts), f.id)
		}
		l.told(0, topics...)
	}},
	{Name: "throttle-first-at-once", Section: Stream, Says: "The first leaves at once", server: func(t *trial) {
		const throttle = 10 * time.Second
		place, began := t.place(), time.Now()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {strconv.FormatInt(throttle.Milliseconds(), 10)}})
		l.until("ready")
		l.write(place)
		t.needf(time.Since(began) < throttle, "the first notice of a stream with a throttle of %s came %s after the stream was asked for", throttle, time.Since(began))
	}},
	{Name: "throttle-merges", Section: Stream, Says: "later ones are merged", server: func(t *trial) {
		const throttle, writes = 600 * time.Millisecond, 20
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {strconv.FormatInt(throttle.Milliseconds(), 10)}})
		l.until("ready")
		began := time.Now() // not when the first notice was read: that may have been late
		l.write(place)
		from := len(l.seen)
		l.toldUpTo(t.changes(writes, place))
		// A heartbeat doesn't wait, and is no promise for what wasn't told: so before each
		// of them there may be a notice. One more, for clocks that differ.
		most := 1 + int(l.seen[len(l.seen)-1].at.Sub(began)/throttle)
		notices := 0
		for _, f := range l.seen[from:] {
			switch f.event {
			case "invalidate":
				notices++
			case "frontier":
				most++
			}
		}
		t.needf(notices <= most, "with a throttle of %s, %d writes were told by %d notices; %d would do", throttle, writes, notices, most)
	}},
	{Name: "throttle-last-not-lost", Section: Stream, Says: "the last is never lost", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"200"}})
		l.until("ready")
		l.write(place)
		l.toldUpTo(t.changes(10, place))
	}},
	{Name: "throttle-bound", Section: Stream, Says: "least time between two notices in ms, 0–10,000", server: func(t *trial) {
		for _, ms := range []string{"10001", "-1", "soon"} {
			a := t.do(http.MethodGet, "/events?topic=conformance&throttle="+ms, "")
			t.needf(a.status == http.StatusBadRequest, "a throttle of %s was answered %s", ms, a)
		}
	}},
}

// writeAll writes to each place, to so many at a time.
func (t *trial) writeAll(places []string, writers int) {
	var all sync.WaitGroup
	queue := make(chan string)
	var mu sync.Mutex // guards failed, and the trial's need
	var failed string
	for range writers {
		all.Go(func() {
			for place := range queue {
				one := &trial{driver: t.driver, ctx: t.ctx}
				failure := one.decide(func() { one.write(place) })
				mu.Lock()
				t.need, failed = max(t.need, one.need), cmp.Or(failed, failure)
				mu.Unlock()
			}
		})
	}
	for _, place := range places {
		queue <- place
	}
	close(queue)
	all.Wait()
	t.needf(failed == "", "%s", failed)
}

// change is a write that followed another one. Where in the history it is, its stamp
// doesn't say: that is a need, so its commit is there or below. But it is above the need
// of the write before, since a read at-least that, sent between the two, couldn't have
// contained it.
type change struct{ topic, after, need string }

func (c change) String() string {
	return fmt.Sprintf("the change of %q after %q, up to %s,", c.topic, c.after, c.need)
}

// changes writes so many times to the places in turn, one after another.
func (t *trial) changes(writes int, places ...string) (changes []change) {
	after := ""
	for i := range writes {
		place := places[i%len(places)]
		need := t.write(place).stamp
		changes = append(changes, change{t.service.topic(place), after, need})
		after = need
	}
	return changes
}

// toldUpTo waits for a notice of the last of the changes, which are all that the stream
// follows.
func (l *listener) toldUpTo(changes []change) {
	last := changes[len(changes)-1]
	end := time.Now().Add(l.patience)
	for f := l.seen[len(l.seen)-1]; f.event != "invalidate" || l.t.content(f).Revision <= last.after; {
		f = l.next(last.String())
		l.t.needf(time.Now().Before(end), "within %s %s wasn't told", l.patience, last)
	}
}
