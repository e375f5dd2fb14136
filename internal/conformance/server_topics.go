package conformance

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var topicCases = []Case{
	{Name: "revision-shape", Section: Revisions, Says: "8 hex digits, `-`, 16 hex digits, in lower case", server: func(t *trial) {
		place := t.place()
		for what, rev := range map[string]string{
			"ready": t.position(place), "write": t.write(place).stamp,
			"read": t.read(place).stamp(), "not_found": t.post(t.service.Missing, place, "").stamp(),
		} {
			t.needf(rev == "" || shape.MatchString(rev), "the revision of a %s is %q", what, rev) // whether there is one is other cases'
		}
	}},
	{Name: "topic-longest", Section: Revisions, Says: "1–512 bytes of UTF-8 without control characters", server: func(t *trial) {
		l := t.events(url.Values{"topic": {strings.Repeat("x", 512), "ü/😀"}})
		l.until("ready")
	}},
	{Name: "topic-too-long", Section: Revisions, Says: "1–512 bytes of UTF-8", server: func(t *trial) {
		t.refusesTopic(strings.Repeat("x", 513))
	}},
	{Name: "topic-empty", Section: Revisions, Says: "1–512 bytes of UTF-8", server: func(t *trial) {
		t.refusesTopic("")
	}},
	{Name: "topic-control", Section: Revisions, Says: "without control characters", server: func(t *trial) {
		t.refusesTopic("a\x01b")
	}},
	{Name: "topic-utf8", Section: Revisions, Says: "1–512 bytes of UTF-8", server: func(t *trial) {
		t.refusesTopic("a\xffb")
	}},
	{Name: "topic-exact", Section: Revisions, Says: "Topics match exactly; subscriptions take no wildcards.", server: func(t *trial) {
		one, other := t.place(), t.place()
		topic := t.service.topic(one)
		l := t.events(url.Values{"topic": {topic + "~", topic[:len(topic)-1], strings.Replace(topic, one, "*", 1), t.service.topic(other)}, "throttle": {"0"}})
		l.until("ready")
		t.write(one)
		t.write(other)
		l.told(0, t.service.topic(other))
		for _, f := range l.seen {
			if f.event == "invalidate" {
				t.needf(slices.Equal(t.topics(f), []string{t.service.topic(other)}), "a change of %q was told as one of %q", topic, t.topics(f))
			}
		}
	}},
	{Name: "topics-most", Section: Stream, Says: "repeated, 1–1,000", server: func(t *trial) {
		l := t.subscribe(subscription{Topics: manyTopics(1000)})
		ready := l.until("ready")
		t.needf(t.content(ready[len(ready)-1]).Topics == 1000.0, "1,000 topics were subscribed; ready has %s", ready[len(ready)-1])
	}},
}

// manyTopics are n that nobody writes to.
func manyTopics(n int) (topics []string) {
	for i := range n {
		topics = append(topics, fmt.Sprintf("conformance/many/%d", i))
	}
	return topics
}

// refusesTopic: beside one that is right, too.
func (t *trial) refusesTopic(topic string) {
	a := t.do(http.MethodGet, "/events?"+url.Values{"topic": {"conformance", topic}}.Encode(), "")
	t.needf(a.status == http.StatusBadRequest, "the topic %.40q of %d bytes was answered %s", topic, len(topic), a)
}
