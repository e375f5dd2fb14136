package conformance

import (
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
		type change struct{ topic, revision string }
		var changes []change
		for i := range 30 {
			place := places[i%len(places)]
			changes = append(changes, change{t.service.topic(place), t.write(place).stamp})
		}
		told := map[string]string{} // the highest revision by topic
		for deadline := time.Now().Add(l.patience); len(changes) > 0; {
			f := l.next("the changes " + changes[0].topic)
			if f.event == "invalidate" {
				for _, topic := range t.topics(f) {
					told[topic] = max(told[topic], t.content(f).Revision)
				}
			}
			for f.id != "" && len(changes) > 0 && changes[0].revision <= f.id {
				t.needf(told[changes[0].topic] >= changes[0].revision, "%q changed at %s, and wasn't told before %s", changes[0].topic, changes[0].revision, f)
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
		l := t.subscribe(subscription{Topics: topics, Since: since})
		var told []string
		var parts []frame
		for _, f := range l.until("ready") {
			if f.event != "invalidate" {
				continue
			}
			t.needf(f.size <= most, "a frame has %d bytes", f.size)
			parts, told = append(parts, f), append(told, t.topics(f)...)
		}
		slices.Sort(topics)
		slices.Sort(told)
		t.needf(slices.Equal(topics, told), "%d topics had changed, %d were told", len(topics), len(told))
		t.needf(len(parts) > 1, "%d topics were told in one frame", len(told))
		for i, f := range parts {
			t.needf(t.content(f).Revision != "", "part %d has no revision", i)
			t.needf((f.id != "") == (i == len(parts)-1), "part %d of %d: id %q", i+1, len(parts), f.id)
		}
	}},
	{Name: "throttle-first-at-once", Section: Stream, Says: "The first leaves at once", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"10000"}})
		l.until("ready")
		began := time.Now()
		l.write(place)
		t.needf(time.Since(began) < 5*time.Second, "the first notice of a stream with a throttle of 10 s took %s", time.Since(began))
	}},
	{Name: "throttle-merges", Section: Stream, Says: "later ones are merged", server: func(t *trial) {
		const throttle, writes = 600 * time.Millisecond, 20
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {strconv.FormatInt(throttle.Milliseconds(), 10)}})
		l.until("ready")
		l.write(place)
		from, first := len(l.seen), l.seen[len(l.seen)-1]
		var last string
		for range writes {
			last = t.write(place).stamp
		}
		l.toldUpTo(last)
		// A heartbeat doesn't wait, and is no promise for what wasn't told: so before each
		// of them there may be a notice. One more, since frames may have been read late.
		most := 2 + int(l.seen[len(l.seen)-1].at.Sub(first.at)/throttle)
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
		var last string
		for range 10 {
			last = t.write(place).stamp
		}
		l.toldUpTo(last)
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
	failures := make(chan string, writers)
	for range writers {
		all.Go(func() {
			for place := range queue {
				one := &trial{driver: t.driver, ctx: t.ctx}
				if failure := one.decide(func() { one.write(place) }); failure != "" {
					select {
					case failures <- failure:
					default: // one is enough
					}
				}
			}
		})
	}
	for _, place := range places {
		queue <- place
	}
	close(queue)
	all.Wait()
	close(failures)
	if failure := <-failures; failure != "" {
		t.failf("%s", failure)
	}
}

// toldUpTo waits for a notice at the revision, or above it.
func (l *listener) toldUpTo(rev string) {
	end := time.Now().Add(l.patience)
	for f := l.seen[len(l.seen)-1]; f.event != "invalidate" || l.t.content(f).Revision < rev; {
		f = l.next("the last change, at " + rev)
		l.t.needf(time.Now().Before(end), "within %s the last change, at %s, wasn't told", l.patience, rev)
	}
}
