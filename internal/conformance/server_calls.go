package conformance

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var callCases = []Case{
	{Name: "stamp-on-read", Section: Calls, Says: "response that is an answer (below)", server: func(t *trial) {
		a := t.read(t.place())
		t.needf(a.status == http.StatusOK && a.stamp() != "", "a read has the stamp %q; it was answered %s", a.stamp(), a)
	}},
	{Name: "stamp-on-not-found", Section: Calls, Says: "\"not found, as of this revision\"", server: func(t *trial) {
		a := t.post(t.service.Missing, t.place(), "")
		t.needf(a.failed.Code == "not_found", "the read of what isn't there was answered %s", a)
		t.needf(a.stamp() != "", "not_found has no stamp")
	}},
	{Name: "stamp-absent-on-failure", Section: Calls, Says: "says nothing about data and carries neither stamp nor topics", server: func(t *trial) {
		place := t.place()
		now := t.position(place)
		for what, a := range map[string]answer{
			"an unknown at-least": t.read(place, atLeast, "nonsense"), "an at-least of an older epoch": t.read(place, atLeast, older(now)),
			"half a request": t.do(http.MethodPost, t.service.Read.Procedure, `{"`, "Content-Type", "application/json"),
		} {
			t.needf(a.status != http.StatusOK && a.stamp() == "" && a.header.Get("Freshet-Topics") == "", "%s was answered with the stamp %q and topics %q, %s", what, a.stamp(), a.header.Get("Freshet-Topics"), a)
		}
	}},
	{Name: "mutation-need", Section: Calls, Says: "Of a mutation, a *need*: a read at least this contains the mutation", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"0"}})
		l.until("ready")
		for range 3 {
			from, w := len(l.seen), t.write(place)
			t.needf(shape.MatchString(w.stamp), "a mutation is stamped %q", w.stamp)
			l.told(from, t.service.topic(place))
			rev := t.content(l.seen[len(l.seen)-1]).Revision
			t.needf(w.stamp >= rev, "the mutation is told at %s, and its answer stamped %s", rev, w.stamp)
		}
	}},
	{Name: "mutation-topics", Section: Calls, Says: "the topics its commit changed. Split at commas, then percent-decode each", server: func(t *trial) {
		place := t.place()
		w := t.write(place)
		var topics []string
		for part := range strings.SplitSeq(w.topics, ",") {
			topic, err := url.PathUnescape(part)
			t.needf(err == nil, "Freshet-Topics isn't percent-encoded: %q", w.topics)
			topics = append(topics, topic)
		}
		t.needf(slices.Contains(topics, t.service.topic(place)), "the write changed %q; its answer names %q", t.service.topic(place), w.topics)
	}},
	{Name: "etag-304", Section: Calls, Says: "with `ETag`, `If-None-Match` and 304", server: func(t *trial) {
		place := t.place()
		t.write(place)
		a := t.get(place)
		tag := a.header.Get("ETag")
		t.needf(a.status == http.StatusOK && tag != "", "a read by GET has the ETag %q; it was answered %s", tag, a)
		a = t.get(place, "If-None-Match", tag)
		t.needf(a.status == http.StatusNotModified && a.raw == "", "nothing has changed; If-None-Match was answered %s", a)
	}},
	{Name: "etag-changed", Section: Calls, Says: "the answer contains every commit that had returned before the request arrived", server: func(t *trial) {
		place := t.place()
		tag := t.get(place).header.Get("ETag")
		w := t.write(place)
		a := t.get(place, "If-None-Match", tag)
		t.needf(a.status == http.StatusOK && strings.Contains(a.raw, w.value), "there was a write; If-None-Match was answered %s", a)
	}},
	{Name: "304-new-stamp", Section: Calls, Says: "a 304 carries a new stamp", server: func(t *trial) {
		place := t.place()
		tag := t.get(place).header.Get("ETag")
		rev := t.write(t.place()).stamp
		a := t.get(place, "If-None-Match", tag, atLeast, rev)
		t.needf(a.status != http.StatusNotModified || a.stamp() >= rev, "asked for at-least %s, 304 is stamped %q", rev, a.stamp())
	}},
	{Name: "cache-header", Section: Calls, Says: "`Freshet-Cache: hit`, `joined` or `miss`", server: func(t *trial) {
		place := t.place()
		for range 2 {
			a := t.read(place, atLeast, t.position(place))
			how := a.header.Get("Freshet-Cache")
			t.needf(how == "hit" || how == "joined" || how == "miss", "Freshet-Cache is %q", how)
		}
	}},
	{Name: "request-id-kept", Section: Calls, Says: "an id of yours (1–64 letters, digits, `-._~`)", server: func(t *trial) {
		const id = "Conformance-1._~"
		a := t.read(t.place(), "X-Request-Id", id)
		t.needf(a.header.Get("X-Request-Id") == id, "the request's id was %q, the answer's is %q", id, a.header.Get("X-Request-Id"))
	}},
	{Name: "request-id-made", Section: Calls, Says: "or one that the server makes", server: func(t *trial) {
		a := t.read(t.place())
		t.needf(requestID.MatchString(a.header.Get("X-Request-Id")), "the answer's X-Request-Id is %q", a.header.Get("X-Request-Id"))
	}},
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)
