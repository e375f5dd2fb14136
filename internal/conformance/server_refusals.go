package conformance

import (
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

const refusalsSay = "Errors before the stream begins are ordinary HTTP responses with `{\"code\":\"…\",\"message\":\"…\"}`"

// Cases that some services have nothing for.
const (
	callSpelling  = "spelling-of-call"
	topicSpelling = "spelling-of-topic"
)

var refusalCases = []Case{
	{Name: "no-topic", Section: Stream, Says: "400 a bad topic, `since` or throttle", server: func(t *trial) {
		t.refuses(http.StatusBadRequest, http.MethodGet, "/events", "")
	}},
	{Name: "since-malformed", Section: Stream, Says: "400 a bad topic, `since` or throttle", server: func(t *trial) {
		t.refuses(http.StatusBadRequest, http.MethodGet, "/events?topic=conformance&since=nonsense", "")
	}},
	{Name: "unknown-parameter", Section: Stream, Says: "A first request with an unknown parameter is a 400", server: func(t *trial) {
		t.refuses(http.StatusBadRequest, http.MethodGet, "/events?topic=conformance&unknown=", "")
	}},
	{Name: "unknown-parameter-with-id", Section: Stream, Says: "to whoever comes back with an id the server doesn't say that it doesn't know a parameter", server: func(t *trial) {
		last := t.position(t.place())
		t.events(url.Values{"topic": {"conformance"}, "unknown": {""}}, "Last-Event-ID", last).until("ready")
	}},
	{Name: "unknown-field", Section: Stream, Says: "or a parameter or field that isn't known (a typo would leave you waiting)", server: func(t *trial) {
		t.refuses(http.StatusBadRequest, http.MethodPost, "/events", `{"topics":["conformance"],"unknown":""}`, "Content-Type", "application/json")
	}},
	{Name: "method", Section: Stream, Says: "405", server: func(t *trial) {
		t.refuses(http.StatusMethodNotAllowed, http.MethodPut, "/events", "{}")
	}},
	{Name: "too-many-topics", Section: Stream, Says: "413 too many topics or too long a body", server: func(t *trial) {
		t.refuses(http.StatusRequestEntityTooLarge, http.MethodPost, "/events", subscription{Topics: manyTopics(1001)}.json(), "Content-Type", "application/json")
	}},
	{Name: "too-long-body", Section: Stream, Says: "413 too many topics or too long a body", server: func(t *trial) {
		const most = 5 << 20 // many times a list of 1,000 topics
		body := subscription{Topics: []string{"conformance"}, Since: strings.Repeat("0", most)}.json()
		t.refuses(http.StatusRequestEntityTooLarge, http.MethodPost, "/events", body, "Content-Type", "application/json")
	}},
	{Name: "content-type", Section: Stream, Says: "415", server: func(t *trial) {
		t.refuses(http.StatusUnsupportedMediaType, http.MethodPost, "/events", "topics=conformance", "Content-Type", "application/x-www-form-urlencoded")
	}},
	{Name: callSpelling, Section: Calls, Says: "a field's value is spelled otherwise than the rows that the request is about are, so that no change of its topics could be told", server: func(t *trial) {
		t.misspelled(t.post(t.service.Misspelled, t.place(), t.value()))
	}},
	{Name: topicSpelling, Section: Stream, Says: "a topic that no row can have is a bad one, with `details` and the reason `TOPIC_SPELLING`, as a request for it", server: func(t *trial) {
		topic := strings.ReplaceAll(t.service.Misspelled.Topic, placeMark, t.place())
		t.misspelled(t.do(http.MethodGet, "/events?"+url.Values{"topic": {"conformance", topic}}.Encode(), ""))
	}},
	{Name: "error-body", Section: Stream, Says: refusalsSay, server: func(t *trial) {
		a := t.do(http.MethodGet, "/events?topic=conformance&throttle=soon", "")
		t.needf(a.failed.Code == "invalid_argument" && a.failed.Message != "", "a refusal without code and message: %s", a)
	}},
}

func (t *trial) refuses(status int, method, path, body string, header ...string) {
	a := t.do(method, path, body, header...)
	t.needf(a.status == status, "%s %.200s was answered %s", method, path, a)
}

// misspelled: it was refused for its spelling, and says nothing about data.
func (t *trial) misspelled(a answer) {
	t.needf(a.status == http.StatusBadRequest && a.failed.Code == "invalid_argument" && a.stamp() == "", "another spelling was answered %s", a)
	var info errdetails.ErrorInfo
	t.needf(t.detail(a, &info) && info.GetDomain() == errorDomain && info.GetReason() == spelledReason, "no ErrorInfo of freshet.dev that says TOPIC_SPELLING: %s", a)
}
