package conformance

import (
	"mime"
	"net/url"
)

var beginCases = []Case{
	{Name: "stream-content-type", Section: Stream, Says: "answered with `text/event-stream`", server: func(t *trial) {
		l := t.events(url.Values{"topic": {"conformance"}})
		kind, _, err := mime.ParseMediaType(l.resp.Header.Get("Content-Type"))
		t.needf(err == nil && kind == "text/event-stream", "the stream's Content-Type is %q", l.resp.Header.Get("Content-Type"))
	}},
	{Name: "order", Section: Stream, Says: "The order is fixed: the subscription is registered; then the catch-up; then `ready`; then live events.", server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		before := t.position(place)
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "since": {since}, "throttle": {"0"}})
		at := len(l.until("ready"))
		l.write(place)
		for _, f := range l.seen[at:] {
			t.needf(f.event != "invalidate" || t.content(f).Revision > before, "a change from before the stream, up to %s, was told after ready: %s", before, f)
			t.needf(f.event != "ready", "there was a second ready")
		}
	}},
	{Name: "ready-members", Section: Stream, Says: "`{\"revision\":\"…\",\"topics\":2,\"heartbeat_ms\":15000,\"contract\":\"…\"}`", server: func(t *trial) {
		frames := t.events(url.Values{"topic": {"conformance/a", "conformance/b"}}).until("ready")
		c := t.content(frames[len(frames)-1])
		t.needf(c.Topics == 2.0 && c.Heartbeat > 0, "two topics were subscribed: %s", frames[len(frames)-1])
	}},
	{Name: "ready-has-id", Section: Stream, Says: "caught up; every later change will be told", server: func(t *trial) {
		for _, f := range t.events(url.Values{"topic": {"conformance"}}).until("ready") {
			t.needf(f.event != "ready" || f.id != "" && f.id == t.content(f).Revision, "the id of ready isn't its revision: %s", f)
		}
	}},
	{Name: "heartbeat", Section: Stream, Says: "heartbeat, every `heartbeat_ms`, and at once when the lag crosses the server's bound either way", server: func(t *trial) {
		l := t.events(url.Values{"topic": {"conformance"}})
		l.until("ready")
		l.waitForHeartbeats()
		for range 2 {
			beats := l.until("frontier")
			beat := beats[len(beats)-1]
			c := t.content(beat)
			t.needf(c.Lag != nil && *c.Lag >= 0 && shape.MatchString(c.Revision), "a heartbeat without revision and lag_ms: %s", beat)
		}
	}},
	{Name: "frontier-moves", Section: Stream, Says: "Before a frame with id R, every change up to R of a subscribed topic has been told.", server: func(t *trial) {
		l := t.events(url.Values{"topic": {"conformance"}})
		l.until("ready")
		l.reaches(t.write(t.place()).stamp) // else a client would never learn that it has missed nothing
	}},
}

// waitForHeartbeats gives frames two heartbeats more than the patience. The stream has
// had its ready, which says how often they come.
func (l *listener) waitForHeartbeats() {
	for _, f := range l.seen {
		if f.event == "ready" {
			l.patience = l.t.patience + 2*milliseconds(l.t.content(f).Heartbeat)
		}
	}
}

// write writes to a place that the stream follows, and waits until that is told.
func (l *listener) write(place string) {
	from := len(l.seen)
	l.t.write(place)
	l.told(from, l.t.service.topic(place))
}
