package conformance

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// listener is a stream that was accepted.
type listener struct {
	t        *trial
	resp     *http.Response
	cancel   context.CancelFunc
	buffer   []byte
	patience time.Duration // for the next frame
	seen     []frame       // all frames so far
}

// events opens the stream by GET.
func (t *trial) events(query url.Values, header ...string) *listener {
	return t.listen(t.one, http.MethodGet, "/events?"+query.Encode(), "", header...)
}

// subscription is the body of a POST.
type subscription struct {
	Topics       []string          `json:"topics"`
	Since        string            `json:"since,omitempty"`
	SinceByTopic map[string]string `json:"since_by_topic,omitempty"`
}

func (s subscription) json() string {
	text, _ := json.Marshal(s) // strings only
	return string(text)
}

// subscribe opens the stream by POST.
func (t *trial) subscribe(s subscription, header ...string) *listener {
	return t.listen(t.one, http.MethodPost, "/events", s.json(), append([]string{"Content-Type", "application/json"}, header...)...)
}

func (t *trial) listen(by *http.Client, method, path, body string, header ...string) *listener {
	ctx, cancel := context.WithCancel(t.ctx)
	l := &listener{t: t, cancel: cancel, patience: t.patience}
	timer := time.AfterFunc(t.patience, cancel)
	defer timer.Stop()
	resp, err := by.Do(t.request(ctx, method, path, body, header)) //nolint:bodyclose // close does
	if err != nil {
		cancel()
		t.failf("%s %.200s: %v", method, path, err)
	}
	l.resp = resp
	t.cleanup(l.close)
	if resp.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // as much as there is
		t.failf("%s %.200s was answered %s", method, path, answer{status: resp.StatusCode, raw: string(raw)})
	}
	return l
}

// close ends the stream. It may be repeated.
func (l *listener) close() {
	l.cancel()
	_ = l.resp.Body.Close() // it is ours
}

// fill reads on. It fails the case when the stream ends, or nothing comes for too long.
func (l *listener) fill(what string) {
	timer := time.AfterFunc(l.patience, l.cancel)
	defer timer.Stop()
	chunk := make([]byte, 4<<10)
	n, err := l.resp.Body.Read(chunk)
	l.buffer = append(l.buffer, chunk[:n]...)
	if n == 0 && err != nil {
		l.t.failf("waiting for %s: the stream ended, or was silent for %s (%v); last came %s", what, l.patience, err, l.last())
	}
}

func (l *listener) last() string {
	if len(l.seen) == 0 {
		return "nothing"
	}
	return l.seen[len(l.seen)-1].String()
}

// next is the next frame that has an event; what is needed it for is in what.
func (l *listener) next(what string) frame {
	for {
		block, rest, ok := split(l.buffer)
		if !ok {
			l.fill(what)
			continue
		}
		l.buffer = rest
		if f := parse(block); f.event != "" {
			l.seen = append(l.seen, f)
			return f
		}
	}
}

// until returns all frames up to the first of the event. Heartbeats go on meanwhile, so
// that silence doesn't end it: time does.
func (l *listener) until(event string) []frame {
	end := time.Now().Add(l.patience)
	for from := len(l.seen); ; {
		f := l.next(event)
		if f.event == event {
			return l.seen[from:]
		}
		l.t.needf(time.Now().Before(end), "there was no %s within %s; last came %s", event, l.patience, f)
	}
}

// reaches waits for an id at or above the revision, up to which all is told then, and
// returns it: that may take a heartbeat. The stream has had its ready.
func (l *listener) reaches(rev string) string {
	id := ""
	for _, f := range l.seen {
		id = max(id, f.id)
	}
	l.waitForHeartbeats()
	for end := time.Now().Add(l.patience); id < rev; {
		f := l.next("an id at or above " + rev)
		id = max(id, f.id)
		l.t.needf(id >= rev || time.Now().Before(end), "within %s no id came to %s; last came %s", l.patience, rev, f)
	}
	return id
}

// told waits until the stream has told all of the topics since from frames of it were
// seen, in whatever order.
func (l *listener) told(from int, topics ...string) {
	end := time.Now().Add(l.patience)
	for read := from; ; read++ {
		var known []string
		for _, f := range l.seen[from:] {
			if f.event == "invalidate" {
				known = append(known, l.t.topics(f)...)
			}
		}
		missing := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return slices.Contains(known, topic) })
		if len(missing) == 0 {
			return
		}
		l.t.needf(time.Now().Before(end), "within %s nobody told %q; last came %s", l.patience, missing, l.last())
		l.next("a notice of " + missing[0])
	}
}

// toldBeforeReady are the topics of the catch-up, sorted.
func (l *listener) toldBeforeReady() []string {
	known := []string{}
	for _, f := range l.until("ready") {
		if f.event == "invalidate" {
			known = append(known, l.t.topics(f)...)
		}
	}
	slices.Sort(known)
	return slices.Compact(known)
}
