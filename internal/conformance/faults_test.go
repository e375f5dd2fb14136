package conformance_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var (
	calls    = content("application/json")
	posts    = of(http.MethodPost, "/ListMessages").and(calls)
	gets     = of(http.MethodGet, "/ListMessages")
	missing  = of(http.MethodPost, "/GetMessage").and(calls)
	opens    = of(http.MethodGet, "/events")
	openPost = of(http.MethodPost, "/events")
	watches  = of(http.MethodPost, "/Watch")
	asked    = hasHeader("Freshet-At-Least", true)
	strong   = hasHeader("Freshet-At-Least", false)
	resumes  = hasHeader("Last-Event-ID", true)
	begins   = hasHeader("Last-Event-ID", false)
)

func topics(n int) about { return query(func(q url.Values) bool { return len(q["topic"]) == n }) }

func throttle(ms string) about { return hasParameter("throttle", ms) }

// current: the parameter is a revision of the double's history.
func current(name string) about {
	return query(func(q url.Values) bool { return strings.HasPrefix(q.Get(name), start[:9]) })
}

func edit(name string, change func(string) string) func(*http.Request) {
	return func(r *http.Request) {
		for i, value := range r.Header.Values(name) {
			r.Header.Values(name)[i] = change(value)
		}
	}
}

func drop(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }

func omit(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }

func unstamp(h http.Header, _ int) { h.Del("Freshet-Revision") }

func mapTopics(change func(string) string) func(url.Values) {
	return func(q url.Values) {
		for i, topic := range q["topic"] {
			q["topic"][i] = change(topic)
		}
	}
}

// header tests the value of a request's header.
func header(name string, test func(string) bool) about {
	return func(r *http.Request) bool { return len(r.Header.Values(name)) == 1 && test(r.Header.Get(name)) }
}

func equal(text string) func(string) bool { return func(value string) bool { return value == text } }

func isFuture(rev string) bool { return strings.HasPrefix(rev, start[:9]+"7fff") && len(rev) == 25 }

// flaw is what is wrong with a server: in its handlers, or before them.
type flaw struct {
	inside string
	front  front
}

// serverFaults: each server breaks one sentence of the protocol, and each case is
// there for one of them.
var serverFaults = map[string]flaw{
	// Revisions and topics.
	"revision-shape": {front: answers(missing, func(h http.Header, _ int) {
		h.Set("Freshet-Revision", strings.ToUpper(h.Get("Freshet-Revision")))
	})},
	"topic-longest":  {front: refuses(query(func(q url.Values) bool { return len(q.Get("topic")) > 500 }), 400, `{}`)},
	"topic-too-long": {front: asksQuery(opens, mapTopics(func(topic string) string { return topic[:min(len(topic), 512)] }))},
	"topic-empty": {front: asksQuery(opens, func(q url.Values) {
		q["topic"] = slices.DeleteFunc(q["topic"], func(topic string) bool { return topic == "" })
	})},
	"topic-control": {front: asksQuery(opens, mapTopics(func(topic string) string { return strings.ReplaceAll(topic, "\x01", "") }))},
	"topic-utf8":    {front: asksQuery(opens, mapTopics(func(topic string) string { return strings.ToValidUTF8(topic, "?") }))},
	"topic-exact":   {front: asksQuery(opens, mapTopics(func(topic string) string { return strings.TrimSuffix(topic, "~") }))},
	"topics-most":   {front: func(next http.Handler) http.Handler { return limited(next, 999) }},

	// Calls.
	"strong-read":        {front: remembers},
	"at-least-contains":  {inside: "empty at-least", front: none},
	"at-least-reached":   {front: answers(posts.and(asked), func(h http.Header, status int) { backdate(h, status, http.StatusOK) })},
	"at-least-by-get":    {front: asks(gets, drop("Freshet-At-Least"))},
	"at-least-list":      {front: asks(posts, edit("Freshet-At-Least", func(value string) string { first, _, _ := strings.Cut(value, ","); return first }))},
	"at-least-lines":     {front: asks(posts.and(asked), func(r *http.Request) { r.Header.Set("Freshet-At-Least", r.Header.Get("Freshet-At-Least")) })},
	"at-least-empty":     {front: refuses(posts.and(header("Freshet-At-Least", equal(""))), 400, `{}`)},
	"at-least-malformed": {front: asks(posts.and(header("Freshet-At-Least", func(value string) bool { return strings.HasSuffix(value, "AB") })), drop("Freshet-At-Least"))},
	"at-least-future":    {front: asks(posts.and(header("Freshet-At-Least", isFuture)), drop("Freshet-At-Least"))},
	"at-least-old-epoch": {inside: "no metadata", front: none},
	"at-least-new-epoch": {inside: "no wait", front: none},
	"bad-request-without-reason": {front: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength == 2 && r.URL.Path != "/events" {
				r.Header.Set("Freshet-At-Least", "nonsense")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
			}
			next.ServeHTTP(w, r)
		})
	}},
	"stamp-on-read":      {front: answers(posts.and(strong), unstamp)},
	"stamp-on-not-found": {front: answers(missing, unstamp)},
	"stamp-absent-on-failure": {front: answers(posts.and(asked), func(h http.Header, status int) {
		if status == http.StatusBadRequest {
			h.Set("Freshet-Revision", start)
		}
	})},
	"mutation-need":   {inside: "early need", front: none},
	"mutation-topics": {inside: "first topic", front: none},
	"etag-304":        {inside: "no 304", front: none},
	"etag-changed":    {inside: "always 304", front: none},
	"304-new-stamp":   {front: answers(gets.and(asked), func(h http.Header, status int) { backdate(h, status, http.StatusNotModified) })},
	"cache-header":    {front: answers(posts, func(h http.Header, _ int) { h.Set("Freshet-Cache", "HIT") })},
	"request-id-kept": {front: asks(posts, drop("X-Request-Id"))},
	"request-id-made": {front: answers(posts.and(hasHeader("X-Request-Id", false)), func(h http.Header, _ int) { h.Del("X-Request-Id") })},
	"principal":       {front: answers(posts, func(h http.Header, _ int) { h.Set("Freshet-Principal", "org_id=a b") })},
	"cause": {front: answers(posts.and(asked), func(h http.Header, _ int) {
		h.Set("Freshet-Cause", strings.Replace(h.Get("Freshet-Cause"), "revision=", "revision: ", 1))
	})},
	"cause-of-at-least":    {front: answers(posts.and(strong), func(h http.Header, _ int) { h.Set("Freshet-Cause", "change=unknown") })},
	"http2-call":           {front: refuses(posts.and(overHTTP2), 505, `{}`)},
	"http2-stream":         {front: refuses(opens.and(overHTTP2), 505, `{}`)},
	"grpc-stamp":           {front: answers(of(http.MethodPost, "/ListMessages").and(content("application/grpc+json")), unstamp)},
	"grpc-error-stamp":     {inside: "no stamp on errors of grpc", front: none},
	"grpc-at-least":        {front: asks(content("application/grpc+json"), drop("Freshet-At-Least"))},
	"grpc-web-stamp":       {front: answers(of(http.MethodPost, "/ListMessages").and(content("application/grpc-web+json")), unstamp)},
	"grpc-web-error-stamp": {inside: "no stamp on errors of grpcweb", front: none},

	// The stream: how it begins.
	"stream-content-type": {front: answers(opens, func(h http.Header, status int) {
		if status == http.StatusOK {
			h.Set("Content-Type", "text/plain")
		}
	})},
	"order":         {front: tells(opens, catchesUpLate)},
	"ready-members": {front: frames(opens, func(f string) string { return strings.Replace(f, `"topics":2`, `"topics":3`, 1) })},
	"ready-has-id": {front: frames(opens, func(f string) string {
		if is(f, "ready") {
			return withRevision(f, start)
		}
		return f
	})},
	"heartbeat": {front: frames(opens, func(f string) string { return strings.Replace(f, "lag_ms", "lag", 1) })},
	"frontier-moves": {front: frames(opens.and(hasParameter("topic", "conformance")), func(f string) string {
		if is(f, "frontier") {
			return withID(f, start)
		}
		return f
	})},
	"no-since-no-catch-up": {front: asksQuery(opens.and(begins).and(query(func(q url.Values) bool { return !q.Has("since") && !strings.Contains(q.Encode(), "lastEvent") })), func(q url.Values) { q.Set("since", start) })},
	"empty-since":          {front: refuses(opens.and(hasParameter("since", "")), 400, `{}`)},
	"since-by-get":         {front: asksQuery(opens.and(begins).and(current("since")), omit("since"))},
	"since-excludes":       {front: asksQuery(opens.and(begins).and(current("since")), func(q url.Values) { q.Set("since", start) })},
	"since-by-post": {front: asksBody(openPost, func(_ *http.Request, b body) {
		if list, _ := b["topics"].([]any); b["since_by_topic"] == nil && len(list) < 10 && isOurs(b["since"]) {
			delete(b, "since")
		}
	})},
	"since-by-topic": {front: asksBody(openPost, func(_ *http.Request, b body) {
		if b["since"] == nil {
			delete(b, "since_by_topic")
		}
	})},
	"since-by-topic-default": {front: asksBody(openPost, func(_ *http.Request, b body) {
		if b["since_by_topic"] != nil {
			delete(b, "since")
		}
	})},
	"resume":                             {front: asks(opens.and(topics(2)), drop("Last-Event-ID"))},
	"last-event-id-replaces-since":       {front: asks(opens.and(current("since")), drop("Last-Event-ID"))},
	"last-event-id-over-malformed-since": {front: refuses(opens.and(hasParameter("since", "nonsense")), 400, `{}`)},
	"last-event-id-empty":                {front: asksQuery(opens.and(header("Last-Event-ID", equal(""))), omit("since"))},
	"last-event-id-parameter":            {front: asksQuery(opens.and(begins), omit("lastEventId"))},
	"last-event-id-parameter-case":       {front: asksQuery(opens.and(begins), omit("lastEventID"))},
	"last-event-id-header-counts":        {front: asks(opens.and(current("lastEventId")), drop("Last-Event-ID"))},
	"post-ignores-last-event-id":         {front: refuses(openPost.and(resumes), 400, `{}`)},
	"reset-on-old-epoch":                 {front: asksQuery(opens.and(query(func(q url.Values) bool { return isOlder(q.Get("since")) })), omit("since"))},
	"reset-on-new-epoch":                 {front: asksQuery(opens.and(query(func(q url.Values) bool { return strings.HasPrefix(q.Get("since"), "ffffffff") })), omit("since"))},
	"reset-on-future":                    {front: asks(opens.and(header("Last-Event-ID", isFuture)), drop("Last-Event-ID"))},
	"reset-on-malformed-id":              {front: asks(opens.and(header("Last-Event-ID", equal("42"))), drop("Last-Event-ID"))},
	"reset-then-ready":                   {front: tells(openPost, neverReady)},
	"reset-revision": {front: frames(openPost, func(f string) string {
		if is(f, "reset") {
			return withRevision(f, start[:24])
		}
		return f
	})},

	// The stream: what it tells.
	"id-promise": {front: tells(opens.and(topics(3)), func() func(string) string {
		told := 0
		return func(f string) string {
			if is(f, "invalidate") {
				told++
			}
			if told%4 == 3 && is(f, "invalidate") {
				return ""
			}
			return f
		}
	})},
	"ids-never-fall": {front: tells(opens.and(throttle("1")), func() func(string) string {
		told := 0
		return func(f string) string {
			if is(f, "invalidate") {
				told++
			}
			if told == 3 && is(f, "invalidate") {
				return withID(withRevision(f, start), start)
			}
			return f
		}
	})},
	"notice-revision": {front: frames(opens.and(topics(1)).and(throttle("0")), func(f string) string {
		if is(f, "invalidate") {
			return withRevision(f, before(revisionOf(f)))
		}
		return f
	})},
	"notice-topics": {front: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			all := r.URL.Query()["topic"]
			frames(opens.and(topics(2)).and(throttle("0")), func(f string) string {
				return strings.Replace(f, `"topics":["`+all[0]+`"]`, `"topics":["`+strings.Join(all, `","`)+`"]`, 1)
			})(next).ServeHTTP(w, r)
		})
	}},
	"split-frames": {front: frames(openPost, func(f string) string {
		if is(f, "invalidate") && !strings.Contains(f, "id: ") {
			return "id: " + revisionOf(f) + "\n" + f
		}
		return f
	})},
	"throttle-first-at-once": {front: tells(opens.and(throttle("10000")), func() func(string) string { return only(0) })},
	"throttle-merges":        {front: asksQuery(opens.and(throttle("600")), func(q url.Values) { q.Set("throttle", "0") })},
	"throttle-last-not-lost": {front: tells(opens.and(throttle("200")), func() func(string) string { return only(1) })},
	"throttle-bound":         {front: asksQuery(opens.and(throttle("10001")), func(q url.Values) { q.Set("throttle", "10000") })},

	// The stream: what it refuses.
	"no-topic":                  {front: asksQuery(opens.and(topics(0)), func(q url.Values) { q.Set("topic", "x") })},
	"since-malformed":           {front: asksQuery(opens.and(begins).and(hasParameter("since", "nonsense")), omit("since"))},
	"unknown-parameter":         {front: asksQuery(opens.and(begins), omit("unknown"))},
	"unknown-parameter-with-id": {front: refuses(opens.and(resumes).and(hasParameter("unknown", "")), 400, `{}`)},
	"unknown-field":             {front: asksBody(openPost, func(_ *http.Request, b body) { delete(b, "unknown") })},
	"method":                    {front: refuses(of(http.MethodPut, "/events"), 404, `{}`)},
	"too-many-topics": {front: asksBody(openPost, func(_ *http.Request, b body) {
		if list, ok := b["topics"].([]any); ok {
			b["topics"] = list[:min(len(list), 1000)]
		}
	})},
	"too-long-body": {front: asksBody(openPost, func(_ *http.Request, b body) {
		if since, ok := b["since"].(string); ok && len(since) > 1<<20 {
			delete(b, "since")
		}
	})},
	"content-type": {front: asks(openPost.and(content("application/x-www-form-urlencoded")), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
	})},
	"spelling-of-call":  {inside: "looks for other spellings", front: none},
	"spelling-of-topic": {inside: "follows other spellings", front: none},
	"error-body":        {front: refuses(opens.and(throttle("soon")), 400, `bad throttle`)},

	// Watch.
	"watch-order": {front: asksBody(watches.and(content("application/connect+json")), func(_ *http.Request, b body) { sinceless(b, isOurs) })},
	"watch-reset": {front: asksBody(watches.and(content("application/connect+json")), func(_ *http.Request, b body) {
		sinceless(b, func(v any) bool { s, _ := v.(string); return isOlder(s) })
	})},
	"watch-content-type": {front: answers(watches, func(h http.Header, _ int) { h.Set("Content-Type", "application/json") })},
	"watch-is-no-call":   {front: refuses(watches.and(calls), 200, `{}`)},
	"watch-refusal":      {front: asksBody(watches.and(content("application/connect+json")), func(_ *http.Request, b body) { sinceless(b, func(v any) bool { return v == "nonsense" }) })},
}
