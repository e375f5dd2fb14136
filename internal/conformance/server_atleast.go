package conformance

import (
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

const (
	atLeast       = "Freshet-At-Least"
	errorDomain   = "freshet.dev"
	unknownReason = "AT_LEAST_UNKNOWN"
	epochReason   = "EPOCH_CHANGED"
	spelledReason = "TOPIC_SPELLING"
)

var atLeastCases = []Case{
	{Name: "strong-read", Section: Calls, Says: "the answer contains every commit that had returned before the request arrived", server: func(t *trial) {
		place := t.place()
		for range 5 {
			w := t.write(place)
			a := t.read(place)
			t.needf(strings.Contains(a.raw, w.value), "the write had returned; the read was answered %s", a)
		}
	}},
	{Name: "at-least-contains", Section: Calls, Says: "the answer must contain every commit up to the highest of them", server: func(t *trial) {
		place := t.place()
		l := t.events(url.Values{"topic": {t.service.topic(place)}, "throttle": {"0"}})
		l.until("ready")
		for range 5 {
			from, w := len(l.seen), t.write(place)
			l.told(from, t.service.topic(place))
			rev := t.content(l.seen[len(l.seen)-1]).Revision
			a := t.read(place, atLeast, rev)
			t.needf(strings.Contains(a.raw, w.value), "the write was told at %s; the read at-least that was answered %s", rev, a)
		}
	}},
	{Name: "at-least-reached", Section: Calls, Says: "the *stamp*: all commits up to it, on the read's topics, are in the answer", server: func(t *trial) {
		place := t.place()
		rev := t.write(place).stamp
		a := t.read(place, atLeast, rev)
		t.needf(a.stamp() >= rev, "asked for at-least %s, the answer is stamped %q", rev, a.stamp())
	}},
	{Name: "at-least-by-get", Section: Calls, Says: "Reads also take Connect's GET", server: func(t *trial) {
		place := t.place()
		a := t.get(place, atLeast, future(t.position(place)))
		t.unknown(a, "a position of the future, by GET")
	}},
	{Name: "at-least-list", Section: Calls, Says: "`Freshet-At-Least: <rev>[, <rev>…]`", server: func(t *trial) {
		place := t.place()
		now := t.position(place)
		for _, list := range []string{now + ", " + future(now), future(now) + "," + now} {
			t.unknown(t.read(place, atLeast, list), "a list with a position of the future")
		}
		a := t.read(place, atLeast, now+", "+now)
		t.needf(a.status == http.StatusOK, "a list was answered %s", a)
	}},
	{Name: "at-least-lines", Section: Calls, Says: "request, in one line or several", server: func(t *trial) {
		place := t.place()
		now := t.position(place)
		t.unknown(t.read(place, atLeast, now, atLeast, future(now)), "a second line with a position of the future")
	}},
	{Name: "at-least-empty", Section: Calls, Says: "Absent or empty: *strong*", server: func(t *trial) {
		a := t.read(t.place(), atLeast, "")
		t.needf(a.status == http.StatusOK, "an empty header was answered %s", a)
	}},
	{Name: "at-least-malformed", Section: Calls, Says: "at-least is malformed, or of the node's epoch and beyond anything that the database has written", server: func(t *trial) {
		place := t.place()
		now := t.position(place)
		for _, rev := range []string{"nonsense", "0000abcd-00000000000000AB", now[:24], now + "0"} {
			t.unknown(t.read(place, atLeast, rev), rev)
		}
	}},
	{Name: "at-least-future", Section: Calls, Says: "of the node's epoch and beyond anything that the database has written", server: func(t *trial) {
		place := t.place()
		t.unknown(t.read(place, atLeast, future(t.position(place))), "a position of the future")
	}},
	{Name: "at-least-old-epoch", Section: Calls, Says: "reason `EPOCH_CHANGED`, metadata `epoch` and `revision` (where the node is)", server: func(t *trial) {
		place := t.place()
		now := t.position(place)
		a := t.read(place, atLeast, older(now))
		t.needf(a.failed.Code == "failed_precondition", "at-least of an older epoch was answered %s", a)
		var info errdetails.ErrorInfo
		t.needf(t.detail(a, &info) && info.GetDomain() == errorDomain && info.GetReason() == epochReason, "no ErrorInfo of freshet.dev that says EPOCH_CHANGED: %s", a)
		at := info.GetMetadata()["revision"]
		t.needf(shape.MatchString(at) && at[:8] == now[:8] && info.GetMetadata()["epoch"] == now[:8], "the metadata is %v, the node's epoch %s", info.GetMetadata(), now[:8])
	}},
	{Name: "at-least-new-epoch", Section: Calls, Says: "or at-least belongs to a newer epoch than the node's, whatever that is", server: func(t *trial) {
		place := t.place()
		a := t.read(place, atLeast, newer(t.position(place)))
		t.needf(a.failed.Code == "unavailable", "at-least of a newer epoch was answered %s", a)
		var retry errdetails.RetryInfo
		t.needf(t.detail(a, &retry) && retry.GetRetryDelay().AsDuration() > 0, "no RetryInfo that says how long to wait: %s", a)
	}},
	{Name: "bad-request-without-reason", Section: Calls, Says: "`invalid_argument` without one is about the request itself", server: func(t *trial) {
		a := t.do(http.MethodPost, t.service.Read.Procedure, `{"`, "Content-Type", "application/json")
		t.needf(a.failed.Code == "invalid_argument", "half a JSON object was answered %s", a)
		var info errdetails.ErrorInfo
		t.needf(!t.detail(a, &info) || info.GetDomain() != errorDomain, "a request that is wrong itself is refused as %s", info.GetReason())
	}},
}

// unknown: the answer says that its at-least can't be.
func (t *trial) unknown(a answer, what string) {
	t.needf(a.failed.Code == "invalid_argument", "at-least %s was answered %s", what, a)
	var info errdetails.ErrorInfo
	t.needf(t.detail(a, &info) && info.GetDomain() == errorDomain && info.GetReason() == unknownReason, "at-least %s: no ErrorInfo of freshet.dev that says AT_LEAST_UNKNOWN: %s", what, a)
}
