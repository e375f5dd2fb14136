package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/freshet-dev/freshet/internal/conformance"
)

// Revisions of the script: each case has positions of its own.
func at(position int) string    { return fmt.Sprintf("0000000a-%016x", 0x200+position) }
func next(position int) string  { return fmt.Sprintf("0000000b-%016x", position) }
func lower(position int) string { return fmt.Sprintf("00000009-%016x", position) }

const (
	atBegin  = "0000000a-0000000000000100"
	atBefore = "0000000a-00000000000000ff"
)

func all(*http.Request) bool { return true }

func events(r *http.Request) bool { return r.URL.Path == "/events" }

func asksFor(rev string) about { return header("Freshet-At-Least", equal(rev)) }

// forgets: a client that asks strongly in place of at-least rev.
func forgets(rev string) conformance.ClientFault {
	return conformance.ClientFault{Front: asks(asksFor(rev), drop("Freshet-At-Least"))}
}

// takes: a client that takes the stamp from for another one.
func takes(from, to string) conformance.ClientFault {
	return conformance.ClientFault{Front: answers(all, func(h http.Header, _ int) {
		if h.Get("Freshet-Revision") == from {
			h.Del("Freshet-Revision")
			if to != "" {
				h.Set("Freshet-Revision", to)
			}
		}
	})}
}

// reads: a client that reads what is written to its stream in another way.
func reads(change func(string) string) conformance.ClientFault {
	return conformance.ClientFault{Front: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if events(r) {
				w = &spoiler{ResponseWriter: w, raw: change}
			}
			next.ServeHTTP(w, r)
		})
	}}
}

// deaf: a client that doesn't hear what has some text in it.
func deaf(to func(string) bool) conformance.ClientFault {
	return reads(func(text string) string {
		if to(text) {
			return ""
		}
		return text
	})
}

func with(part string) func(string) bool {
	return func(text string) bool { return strings.Contains(text, part) }
}

// once returns an about that holds only the first time.
func once(which about) about {
	var done atomic.Bool // requests come side by side
	return func(r *http.Request) bool { return which(r) && done.CompareAndSwap(false, true) }
}

// repeats: a client that sends a request before, or after, another one. Nobody waits for
// its answer.
func repeats(rev, path, body string, after bool) conformance.ClientFault {
	return conformance.ClientFault{Front: func(next http.Handler) http.Handler {
		which := once(asksFor(rev))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			send := func() {
				ctx, cancel := context.WithCancel(r.Context())
				cancel()
				again := r.Clone(ctx)
				again.URL.Path, again.Method, again.URL.RawQuery = path, http.MethodPost, ""
				again.Body = io.NopCloser(strings.NewReader(body))
				next.ServeHTTP(httptest.NewRecorder(), again)
			}
			is := which(r)
			raw, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(raw))
			if is && !after {
				send()
			}
			next.ServeHTTP(w, r)
			if is && after {
				send()
			}
		})
	}}
}

const (
	listPath = "/messages.v1.MessageService/ListMessages"
	listOne  = `{"parent":"conversations/1"}`
)

// insists: a client that asks for rev again when it should ask strongly.
func insists(rev string) conformance.ClientFault {
	return conformance.ClientFault{Front: func(next http.Handler) http.Handler {
		var asked atomic.Bool // requests come side by side
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Load() && strong(r) && r.URL.Path == listPath {
				r.Header.Set("Freshet-At-Least", rev)
			}
			if asksFor(rev)(r) {
				asked.Store(true)
			}
			next.ServeHTTP(w, r)
		})
	}}
}

// hides: a client that doesn't show a value.
func hides(value string) conformance.ClientFault {
	return conformance.ClientFault{Reports: func(_ string, shown *string, _ *bool) bool { return !strings.Contains(*shown, value) }}
}

// clientFaults: each client breaks one sentence of the protocol.
var clientFaults = map[string]conformance.ClientFault{
	"none": {},

	"topics": {Front: asksQuery(events, func(q url.Values) { q.Add("topic", "x") })},
	"first-read": {Front: func(next http.Handler) http.Handler {
		return asks(once(about(func(r *http.Request) bool { return r.URL.Path == listPath })), func(r *http.Request) { r.Header.Set("Freshet-At-Least", at(0xfff)) })(next)
	}},
	"other-topic":      repeats(at(0x20), listPath, listOne, false),
	"notice-refetches": forgets(at(0x30)),
	"notice-below-have": reads(func(text string) string {
		if is(text, "invalidate") || is(text, "\nevent: invalidate") {
			return strings.ReplaceAll(text, atBegin, at(0x3f))
		}
		return text
	}),
	"notice-in-flight":     repeats(at(0x50), listPath, listOne, false),
	"answer-covers-notice": takes(at(0x61), at(0x60)),
	"older-answer":         takes(atBefore, at(0x70)),
	"stamp-below-need":     takes(at(0x80), at(0x81)),
	"equal-stamp":          hides("as of the same"),
	"own-write":            forgets(at(0xa0)),
	"own-write-encoded": {Front: answers(all, func(h http.Header, _ int) {
		if h.Get("Freshet-Revision") == at(0xb0) {
			h.Set("Freshet-Topics", strings.ReplaceAll(h.Get("Freshet-Topics"), "%", "%25"))
		}
	})},
	"own-write-without-topics": takes(at(0xc0), ""),

	"unavailable-waits":   repeats(at(0x100), listPath, listOne, true),
	"retry-info-is-least": repeats(at(0x110), listPath, listOne, true),
	"error-is-no-data": {Reports: func(query string, shown *string, stale *bool) bool {
		if *stale && query == "5" {
			*shown = "internal"
		}
		return true
	}},
	"not-found-is-an-answer": hides("not_found"),
	"at-least-unknown":       insists(at(0x140)),
	"misspelled": {Front: asksQuery(events, func(q url.Values) { // a stream of it isn't refused
		if slices.Contains(q["topic"], "conversations/08/messages") {
			q.Set("topic", "conversations/8/messages")
		}
	})},
	"epoch-changed":   insists(at(0x150)),
	"no-stamp":        hides("of unknown age, 360"),
	"malformed-stamp": hides("of unknown age, 370"),

	"unknown-events": {Front: func(next http.Handler) http.Handler {
		choked := false // there is one stream
		return reads(func(text string) string {
			if choked = choked || strings.Contains(text, "event: news"); choked {
				return ""
			}
			return text
		}).Front(next)
	}},
	"lines-crlf":     deaf(with("\r\n")),
	"lines-cr":       deaf(func(text string) bool { return strings.Contains(text, "\r") && !strings.Contains(text, "\n") }),
	"data-lines":     deaf(with("\ndata:\"topics")),
	"split-anywhere": deaf(func(text string) bool { return len(text) == 1 }),
	"half-a-frame": reads(func(text string) string {
		if strings.Contains(text, at(0x250)) {
			return text + "\n"
		}
		return text
	}),
	"part-without-id": reads(func(text string) string {
		if strings.Contains(text, at(0x260)) {
			return "id: " + at(0x260) + "\n" + text
		}
		return text
	}),
	"resume":      deaf(with(at(0x270))),
	"catch-up":    deaf(func(text string) bool { return strings.Contains(text, at(0x280)) }),
	"retry":       reads(func(text string) string { return strings.Replace(text, "retry: 600", "retry: 20", 1) }),
	"retry-after": {Front: answers(events, func(h http.Header, _ int) { h.Del("Retry-After") })},
	"refused-for-good": {Front: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&spoiler{ResponseWriter: w, status: func(status int) int {
				if status == http.StatusBadRequest && events(r) && r.URL.Query().Get("topic") == "conversations/1/messages" {
					return http.StatusServiceUnavailable
				}
				return status
			}}, r)
		})
	}},
	"refused-for-topics": {Front: asksQuery(events, func(q url.Values) {
		if slices.Contains(q["topic"], "conversations/well/messages") {
			q.Add("topic", "conversations/misspelled/messages")
		}
	})},
	"silence":            reads(func(text string) string { return strings.Replace(text, `"heartbeat_ms":200,`, `"heartbeat_ms":20,`, 1) }),
	"comments-count":     deaf(with(": still here")),
	"lag-is-stale":       reads(func(text string) string { return strings.Replace(text, `"lag_ms":600000`, `"lag_ms":0`, 1) }),
	"no-stream-is-stale": {Reports: func(query string, _ *string, stale *bool) bool { *stale = *stale && query != "3"; return true }},
	"end":                deaf(with(at(0x310))),

	"reset":                forgets(next(0x10)),
	"reset-to-lower":       forgets(lower(0x20)),
	"reset-of-own-history": {Front: asks(asksFor(next(0x60)), func(r *http.Request) { r.Header.Set("Freshet-At-Least", next(0x50)) })},
	"higher-epoch":         takes(at(0xffff), next(0x30)),
}
