package conformance

import (
	"net/url"
	"slices"
)

var sinceCases = []Case{
	{Name: "no-since-no-catch-up", Section: Stream, Says: "absent or empty: no catch-up", server: func(t *trial) {
		place := t.place()
		t.write(place)
		told := t.events(url.Values{"topic": {t.service.topic(place)}}).toldBeforeReady()
		t.needf(len(told) == 0, "without since there was a catch-up: %q", told)
	}},
	{Name: "empty-since", Section: Stream, Says: "absent or empty: no catch-up", server: func(t *trial) {
		t.events(url.Values{"topic": {"conformance"}, "since": {""}}).until("ready")
	}},
	{Name: "since-by-get", Section: Stream, Says: "the revision that the client's data is stamped with", server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		t.events(url.Values{"topic": {t.service.topic(place)}, "since": {since}}).told(0, t.service.topic(place))
	}},
	{Name: "since-excludes", Section: Stream, Says: "the revision that the client's data is stamped with", server: func(t *trial) {
		one, other := t.place(), t.place()
		t.write(one)
		since := t.position(one)
		t.write(other)
		told := t.events(url.Values{"topic": {t.service.topic(one), t.service.topic(other)}, "since": {since}}).toldBeforeReady()
		t.needf(!slices.Contains(told, t.service.topic(one)), "what was written before since was told: %q", told)
	}},
	{Name: "since-by-post", Section: Stream, Says: "`POST /events` (`Content-Type: application/json`) is for long lists", server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		t.subscribe(subscription{Topics: []string{t.service.topic(place)}, Since: since}).told(0, t.service.topic(place))
	}},
	{Name: "since-by-topic", Section: Stream, Says: "and for topics whose data is stamped differently", server: func(t *trial) {
		one, other := t.place(), t.place()
		before := t.position(one)
		t.write(one)
		t.write(other)
		after := t.position(one)
		l := t.subscribe(subscription{
			Topics:       []string{t.service.topic(one), t.service.topic(other)},
			SinceByTopic: map[string]string{t.service.topic(one): before, t.service.topic(other): after},
		})
		told := l.toldBeforeReady()
		t.needf(slices.Equal(told, []string{t.service.topic(one)}), "of one topic the since was from before a write, of the other from after it; told was %q", told)
	}},
	{Name: "since-by-topic-default", Section: Stream, Says: "a topic that `since_by_topic` doesn't name takes `since`", server: func(t *trial) {
		one, other := t.place(), t.place()
		before := t.position(one)
		t.write(other)
		l := t.subscribe(subscription{
			Topics: []string{t.service.topic(one), t.service.topic(other)}, Since: before,
			SinceByTopic: map[string]string{t.service.topic(one): before},
		})
		l.told(0, t.service.topic(other))
	}},
}

var resumeCases = []Case{
	{Name: "resume", Section: Stream, Says: "the last id heard is what to resume from, at any node", server: func(t *trial) {
		one, other := t.place(), t.place()
		query := url.Values{"topic": {t.service.topic(one), t.service.topic(other)}, "throttle": {"0"}}
		l := t.events(query)
		l.until("ready")
		l.write(one)
		last := l.seen[len(l.seen)-1].id
		l.close()
		t.write(other)
		t.events(query, "Last-Event-ID", last).told(0, t.service.topic(other))
	}},
	{Name: "last-event-id-replaces-since", Section: Stream, Says: "`Last-Event-ID` replaces `since`, whatever that holds", server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		last := t.position(place)
		told := t.events(url.Values{"topic": {t.service.topic(place)}, "since": {since}}, "Last-Event-ID", last).toldBeforeReady()
		t.needf(len(told) == 0, "nothing has changed since the last id; told was %q", told)
	}},
	{Name: "last-event-id-over-malformed-since", Section: Stream, Says: "replaces `since`, whatever that holds", server: func(t *trial) {
		last := t.position(t.place())
		t.events(url.Values{"topic": {"conformance"}, "since": {"nonsense"}}, "Last-Event-ID", last).until("ready")
	}},
	{Name: "last-event-id-empty", Section: Stream, Says: "an empty one is none", server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		t.events(url.Values{"topic": {t.service.topic(place)}, "since": {since}}, "Last-Event-ID", "").told(0, t.service.topic(place))
	}},
	{Name: "last-event-id-parameter", Section: Stream, Says: "what polyfills of EventSource send instead of the header", server: func(t *trial) {
		t.resumesByParameter("lastEventId")
	}},
	{Name: "last-event-id-parameter-case", Section: Stream, Says: "(in any case: `lastEventID`)", server: func(t *trial) {
		t.resumesByParameter("lastEventID")
	}},
	{Name: "last-event-id-header-counts", Section: Stream, Says: "as `Last-Event-ID`, which counts if both are there", server: func(t *trial) {
		place := t.place()
		before := t.position(place)
		t.write(place)
		after := t.position(place)
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "lastEventId": {before}}, "Last-Event-ID", after)
		told := l.toldBeforeReady()
		t.needf(len(told) == 0, "nothing has changed since the id in the header; told was %q", told)
	}},
	{Name: "post-ignores-last-event-id", Section: Stream, Says: "It ignores `Last-Event-ID`", server: func(t *trial) {
		l := t.subscribe(subscription{Topics: []string{"conformance"}}, "Last-Event-ID", older(t.position(t.place())))
		for _, f := range l.until("ready") {
			t.needf(f.event != "reset", "the header was heeded: %s", f)
		}
	}},
}

func (t *trial) resumesByParameter(name string) {
	place := t.place()
	last := t.position(place)
	t.write(place)
	t.events(url.Values{"topic": {t.service.topic(place)}, name: {last}}).told(0, t.service.topic(place))
}

var resetCases = []Case{
	{Name: "reset-on-old-epoch", Section: Stream, Says: "another history: refetch everything, with jitter", server: func(t *trial) {
		t.resets(url.Values{"since": {older(t.position(t.place()))}})
	}},
	{Name: "reset-on-new-epoch", Section: Stream, Says: "So it holds whatever the epoch that a client knows, a higher one too", server: func(t *trial) {
		t.resets(url.Values{"since": {newer(t.position(t.place()))}})
	}},
	{Name: "reset-on-future", Section: Stream, Says: "a malformed, future or foreign id is answered by `reset`", server: func(t *trial) {
		t.resets(nil, "Last-Event-ID", future(t.position(t.place())))
	}},
	{Name: "reset-on-malformed-id", Section: Stream, Says: "a malformed, future or foreign id is answered by `reset`", server: func(t *trial) {
		t.resets(nil, "Last-Event-ID", "42")
	}},
	{Name: "reset-then-ready", Section: Stream, Says: "The `reset` in place of a catch-up is followed by one.", server: func(t *trial) {
		l := t.subscribe(subscription{Topics: []string{"conformance"}, Since: older(t.position(t.place()))})
		l.until("ready")
	}},
	{Name: "reset-revision", Section: Stream, Says: "`{\"revision\":\"…\",\"reason\":\"epoch\"}`", server: func(t *trial) {
		now := t.position(t.place())
		l := t.subscribe(subscription{Topics: []string{"conformance"}, Since: older(now)})
		f := l.next("reset")
		rev := t.content(f).Revision
		t.needf(f.event == "reset" && shape.MatchString(rev) && rev[:8] == now[:8] && f.id == rev, "the server's epoch is %s: %s", now[:8], f)
	}},
}

// resets: the stream begins with a reset.
func (t *trial) resets(query url.Values, header ...string) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("topic", "conformance")
	l := t.events(query, header...)
	f := l.next("reset")
	t.needf(f.event == "reset", "in place of reset came %s", f)
}
