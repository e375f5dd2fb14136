package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// request is what a client asks for, checked but for what only the database
// can say. An empty since is none.
type request struct {
	topics   []string // valid and distinct
	since    hub.Since
	throttle time.Duration
}

// maxTopicsRepeated bounds repetitions in a list: distinct topics count
// against MaxTopics.
const maxTopicsRepeated = 10

func (s *Server) newRequest(topics []string, since string, byTopic map[string]string) (*request, *refusal) {
	limit := s.config.MaxTopics
	if len(topics) == 0 {
		return nil, badRequest("no topic: name at least one")
	}
	if len(topics) > maxTopicsRepeated*limit {
		return nil, tooLarge("too_many_topics", "%d topics: at most %d are allowed", len(topics), limit)
	}
	r := &request{topics: make([]string, 0, min(len(topics), limit)), throttle: s.config.Throttle}
	seen := make(map[string]struct{}, min(len(topics), limit))
	for _, topic := range topics {
		if err := freshet.CheckTopic(topic); err != nil {
			return nil, badRequest("%v", err)
		}
		if _, dup := seen[topic]; dup {
			continue
		}
		seen[topic] = struct{}{}
		r.topics = append(r.topics, topic)
	}
	if len(r.topics) > limit {
		return nil, tooLarge("too_many_topics", "%d topics: at most %d are allowed", len(r.topics), limit)
	}
	var bad *refusal
	if r.since.All, bad = parseSince("since", since); bad != nil {
		return nil, bad
	}
	if len(byTopic) == 0 {
		return r, nil
	}
	r.since.ByTopic = make(map[string]freshet.Revision, len(byTopic))
	for topic, text := range byTopic {
		if _, ok := seen[topic]; !ok {
			return nil, badRequest("since_by_topic names %.64q, which is not among the topics", topic)
		}
		if r.since.ByTopic[topic], bad = parseSince("since_by_topic", text); bad != nil {
			return nil, bad
		}
	}
	return r, nil
}

func parseSince(name, text string) (freshet.Revision, *refusal) {
	if text == "" {
		return freshet.Revision{}, nil
	}
	rev, err := freshet.ParseRevision(text)
	if err != nil {
		return rev, badRequest("%s: %v", name, err)
	}
	return rev, nil
}

// query parses the URL's query. Anything that isn't known is an error: a typo
// that is skipped would leave a client waiting for topics it never subscribed
// to, or without its catch-up. Whoever comes back isn't refused for it: what it
// asks for has been served before, whatever a library or a proxy has added
// since, and an EventSource that is refused never tries again.
func query(r *http.Request, comesBack bool, known ...string) (url.Values, *refusal) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil && !comesBack {
		return nil, badRequest("malformed query: %v", err)
	}
	if comesBack {
		return values, nil
	}
	for name, list := range values {
		switch {
		case !slices.Contains(known, name):
			return nil, badRequest("unknown query parameter %.64q: %s takes %q", name, r.Method, known)
		case name != "topic" && len(list) > 1:
			return nil, badRequest("query parameter %q is given %d times", name, len(list))
		}
	}
	return values, nil
}

// lastEventIDs are the ids that a client has come back with: of the header, or of
// the query parameter that polyfills of EventSource use, since theirs can't set
// headers without a preflight. Nil: it doesn't come back.
func lastEventIDs(r *http.Request) []string {
	if ids := r.Header.Values("Last-Event-Id"); len(ids) > 0 {
		return ids
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil
	}
	var ids []string
	for name, list := range values {
		if strings.EqualFold(name, lastEventIDParameter) {
			ids = append(ids, list...)
		}
	}
	return ids
}

// lastEventIDParameter in whatever case: event-source-polyfill sends lastEventId,
// Mercure's clients lastEventID.
const lastEventIDParameter = "lastEventId"

func (req *request) setThrottle(values url.Values) *refusal {
	if !values.Has("throttle") {
		return nil
	}
	ms, err := strconv.ParseUint(values.Get("throttle"), 10, 32)
	if err != nil || ms > uint64(MaxThrottle.Milliseconds()) {
		return badRequest("throttle %.32q is not a number of milliseconds from 0 to %d", values.Get("throttle"), MaxThrottle.Milliseconds())
	}
	req.throttle = time.Duration(ms) * time.Millisecond
	return nil
}

// parseGet reads topics, since and throttle from the query. Last-Event-ID
// replaces since, because the list of topics is the same by nature; one that
// isn't a revision asks for a reset, since an error would close an EventSource
// for good.
func (s *Server) parseGet(r *http.Request) (*request, *refusal) {
	ids := lastEventIDs(r)
	values, bad := query(r, len(ids) > 0, "topic", "since", "throttle", lastEventIDParameter)
	if bad != nil {
		return nil, bad
	}
	since := values.Get("since")
	// Browsers leave an empty id out; other clients mean the same.
	replaced := len(ids) > 1 || len(ids) == 1 && ids[0] != ""
	if replaced {
		since = ""
	}
	req, bad := s.newRequest(values["topic"], since, nil)
	if bad != nil {
		return nil, bad
	}
	if bad = req.setThrottle(values); bad != nil {
		return nil, bad
	}
	if replaced {
		rev, err := freshet.ParseRevision(ids[0])
		req.since = hub.Since{All: rev, Reset: err != nil || len(ids) > 1}
	}
	return req, nil
}

// parsePost reads the JSON body; throttle is in the query.
func (s *Server) parsePost(w http.ResponseWriter, r *http.Request) (*request, *refusal) {
	values, bad := query(r, false, "throttle")
	if bad != nil {
		return nil, bad
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		bad := badRequest("Content-Type is not application/json")
		bad.status = http.StatusUnsupportedMediaType
		return nil, bad
	}
	// Read to the end: only then does net/http watch the connection, and ctx
	// ends when the client goes away.
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge("body_too_large", "the body is above %d bytes", large.Limit)
	case err != nil:
		return nil, badRequest("the body could not be read")
	case !utf8.Valid(raw): // encoding/json would put U+FFFD in silence
		return nil, badRequest("the body is not valid UTF-8")
	}
	var body struct {
		Topics       []string          `json:"topics"`
		Since        string            `json:"since"`
		SinceByTopic map[string]string `json:"since_by_topic"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return nil, badRequest("%s", describeJSON(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body goes on after the JSON object")
	}
	req, bad := s.newRequest(body.Topics, body.Since, body.SinceByTopic)
	if bad != nil {
		return nil, bad
	}
	return req, req.setThrottle(values)
}

// describeJSON says what is wrong with a body without naming Go types.
func describeJSON(err error) string {
	const want = `want {"topics":["…"],"since":"…","since_by_topic":{"…":"…"}}`
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return "the body's field " + strconv.Quote(kind.Field) + " can't be a JSON " + kind.Value + ": " + want
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return "the body is not JSON at byte " + strconv.FormatInt(syntax.Offset, 10) + ": " + want
	}
	return "the body is not as expected: " + want
}
