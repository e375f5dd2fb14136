package conformance

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	watchProcedure = "/freshet.v1.InvalidationService/Watch"
	watchContent   = "application/connect+json"
	watchSays      = "the same subscription as a server-streaming RPC, with the same events in the same order"
)

var watchCases = []Case{
	{Name: "watch-order", Section: Stream, Says: watchSays, server: func(t *trial) {
		place := t.place()
		since := t.position(place)
		t.write(place)
		t.position(place)
		w := t.watch(subscription{Topics: []string{t.service.topic(place)}, Since: since})
		t.needf(slices.Equal(w.next().Invalidate.Topics, []string{t.service.topic(place)}), "Watch doesn't begin with the catch-up: %s", w.raw)
		t.needf(w.next().Ready.Revision != "", "after the catch-up came %s", w.raw)
		t.write(place)
		for w.next().Invalidate.Revision == "" {
			t.needf(strings.Contains(w.raw, "frontier"), "the change was told as %s", w.raw)
		}
	}},
	{Name: "watch-reset", Section: Stream, Says: watchSays, server: func(t *trial) {
		w := t.watch(subscription{Topics: []string{"conformance"}, Since: older(t.position(t.place()))})
		t.needf(w.next().Reset.Revision != "", "since an older epoch: Watch began with %s", w.raw)
	}},
	{Name: "watch-content-type", Section: Stream, Says: "a stream's content type is `application/connect+json` (or `+proto`)", server: func(t *trial) {
		w := t.watch(subscription{Topics: []string{"conformance"}})
		kind := w.resp.Header.Get("Content-Type")
		t.needf(strings.HasPrefix(kind, watchContent), "the content type of Watch is %q", kind)
	}},
	{Name: "watch-is-no-call", Section: Stream, Says: "`application/json` is for calls with one answer", server: func(t *trial) {
		a := t.do(http.MethodPost, watchProcedure, `{"topics":["conformance"]}`, "Content-Type", "application/json")
		t.needf(a.status == http.StatusUnsupportedMediaType, "Watch as a call with one answer was answered %s", a)
	}},
	{Name: "watch-refusal", Section: Stream, Says: watchSays, server: func(t *trial) {
		w := t.watch(subscription{Topics: []string{"conformance"}, Since: "nonsense"})
		t.needf(w.next().Error.Code == "invalid_argument", "a since that is no revision: Watch began with %s", w.raw)
	}},
}

// watcher is Watch over Connect.
type watcher struct {
	*listener
	raw string // the last message
}

// watchEvent is a message of it, or its end.
type watchEvent struct {
	Invalidate struct {
		Revision string
		Topics   []string
	}
	Ready, Reset struct{ Revision string }
	Error        struct{ Code string }
}

func (t *trial) watch(s subscription) *watcher {
	return &watcher{listener: t.listen(t.one, http.MethodPost, watchProcedure, envelope(s.json()), "Content-Type", watchContent, "Connect-Protocol-Version", "1")}
}

// next is the next message.
func (w *watcher) next() (e watchEvent) {
	end := time.Now().Add(w.patience)
	for {
		_, message, rest, ok := unpack(w.buffer)
		if !ok {
			w.t.needf(time.Now().Before(end), "Watch was silent for %s", w.patience)
			w.fill("a message of Watch")
			continue
		}
		w.raw, w.buffer = string(message), rest
		w.t.needf(json.Unmarshal(message, &e) == nil, "a message of Watch is no JSON: %s", w.raw)
		return e
	}
}
