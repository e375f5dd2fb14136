package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// stage is the scripted server's state.
type stage struct {
	mu       sync.Mutex // guards all below
	frontier string
	queries  []query
	values   map[string]string // by query
	streams  []*opened         // that are open
	news     chan struct{}     // closed when streams come or go
}

func (s *stage) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{})
	}
	return s.news
}

// changed tells who watches. The caller holds mu.
func (s *stage) changed() {
	if s.news != nil {
		close(s.news)
	}
	s.news = make(chan struct{})
}

func (s *stage) valueOf(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[name]
}

// all are the streams that are open.
func (s *stage) all() []*opened {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams)
}

func (s *stage) follows(topic string) bool {
	return slices.ContainsFunc(s.all(), func(o *opened) bool { return slices.Contains(o.topics, topic) })
}

// commit changes what a query answers, and tells it.
func (s *stage) commit(q query, at, value string) {
	s.mu.Lock()
	s.frontier, s.values[q.Name] = at, value
	s.mu.Unlock()
	s.tell(at, q.topic())
}

// tell sends a notice to all streams that follow one of the topics.
func (s *stage) tell(at string, topics ...string) {
	for _, o := range s.all() {
		o.tell(at, topics...)
	}
}

// beat sends a heartbeat to all streams.
func (s *stage) beat(at string, lag int) {
	for _, o := range s.all() {
		o.sendf("id: %s\nevent: frontier\ndata: {\"revision\":%q,\"lag_ms\":%d}\n\n", at, at, lag)
	}
}

// write sends the same bytes to all streams.
func (s *stage) write(text string) {
	for _, o := range s.all() {
		o.sendf("%s", text)
	}
}

// end ends all streams, in good order.
func (s *stage) end() {
	for _, o := range s.all() {
		o.end()
	}
}

// opened is a stream that the client has opened.
type opened struct {
	topics []string
	since  map[string]string // by topic; Last-Event-ID counts
	at     time.Time

	frames chan string
	ended  chan struct{}
	once   sync.Once
	status int // if it is refused; set before ended is closed
	header http.Header
	body   string
}

func (o *opened) sendf(format string, args ...any) { o.frames <- fmt.Sprintf(format, args...) }

func (o *opened) end() { o.once.Do(func() { close(o.ended) }) }

// refuse answers with an error in the place of a stream. It must be the first that is done.
func (o *opened) refuse(status int, header ...string) {
	o.status, o.header, o.body = status, http.Header{}, errorBody("unavailable", nil)
	for i := 0; i < len(header); i += 2 {
		o.header.Set(header[i], header[i+1])
	}
	o.end()
}

// misspelled refuses a stream for topics that no row can have.
func (o *opened) misspelled(topics ...string) {
	o.status = http.StatusBadRequest
	o.body = errorBody("invalid_argument", topics, &errdetails.ErrorInfo{Domain: errorDomain, Reason: "TOPIC_SPELLING"})
	o.end()
}

func (o *opened) ready(at string, heartbeat int) {
	o.sendf("id: %s\nevent: ready\ndata: {\"revision\":%q,\"topics\":%d,\"heartbeat_ms\":%d,\"contract\":\"c\"}\n\n", at, at, len(o.topics), heartbeat)
}

// notice is an invalidate of those of the topics that the stream follows; empty: of none.
func (o *opened) notice(at string, topics ...string) string {
	topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !slices.Contains(o.topics, topic) })
	if len(topics) == 0 {
		return ""
	}
	list, _ := json.Marshal(topics) // strings only
	return fmt.Sprintf("event: invalidate\ndata: {\"revision\":%q,\"topics\":%s,\"spread_ms\":0}\n\n", at, list)
}

func (o *opened) tell(at string, topics ...string) {
	if text := o.notice(at, topics...); text != "" {
		o.sendf("id: %s\n%s", at, text)
	}
}

// lowestSince is where the stream wants to begin; empty: without a catch-up.
func (o *opened) lowestSince() string {
	lowest := o.since[o.topics[0]]
	for _, topic := range o.topics {
		lowest = min(lowest, o.since[topic])
	}
	return lowest
}

func parseOpen(r *http.Request) (*opened, error) {
	o := &opened{since: map[string]string{}, at: time.Now(), frames: make(chan string, 100), ended: make(chan struct{})}
	var s subscription
	if r.Method == http.MethodPost {
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(raw, &s)
		}
		if err != nil {
			return nil, err
		}
	} else {
		s = subscription{Topics: r.URL.Query()["topic"], Since: r.URL.Query().Get("since")}
		if id := r.Header.Get("Last-Event-ID"); id != "" {
			s.Since = id
		}
	}
	if len(s.Topics) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	o.topics = s.Topics
	for _, topic := range s.Topics {
		o.since[topic] = s.Since
		if own, ok := s.SinceByTopic[topic]; ok {
			o.since[topic] = own
		}
	}
	return o, nil
}

// read is a read that the client has sent.
type read struct {
	name    string // of the query
	atLeast string
	at      time.Time
	reply   chan reply // capacity 1
}

type reply struct {
	status int
	stamp  string // empty: none
	body   string
}

// answer answers with a value, as of a stamp.
func (r *read) answer(stamp, value string) {
	r.reply <- reply{http.StatusOK, stamp, fmt.Sprintf(`{"messages":[{"name":"conversations/1/messages/1","body":%q}]}`, value)}
}

// answerOne is answer for GetMessage.
func (r *read) answerOne(stamp, value string) {
	r.reply <- reply{http.StatusOK, stamp, fmt.Sprintf(`{"message":{"name":%q,"body":%q}}`, messageName, value)}
}

// fail answers with an error, in Connect's JSON.
func (r *read) fail(status int, code, stamp string, details ...proto.Message) {
	r.reply <- reply{status, stamp, errorBody(code, nil, details...)}
}

// errorBody is an error in Connect's JSON; topics are those for which a stream is refused.
func errorBody(code string, topics []string, details ...proto.Message) string {
	type detail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	body := struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Details []detail `json:"details,omitempty"`
		Topics  []string `json:"topics,omitempty"`
	}{Code: code, Message: "as the script says", Topics: topics}
	for _, d := range details {
		raw, _ := proto.Marshal(d) // of strings and numbers
		body.Details = append(body.Details, detail{string(d.ProtoReflect().Descriptor().FullName()), base64.RawStdEncoding.EncodeToString(raw)})
	}
	text, _ := json.Marshal(body) // the same
	return string(text)
}

func (r reply) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if r.stamp != "" {
		w.Header().Set("Freshet-Revision", r.stamp)
	}
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.body) // the client went
}

// handler is the scripted server.
func (p *play) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/events", p.stream)
	mux.HandleFunc(service+"CreateMessage", p.mutation)
	mux.HandleFunc("/", p.call)
	return mux
}

func (p *play) stream(w http.ResponseWriter, r *http.Request) {
	o, err := parseOpen(r)
	if err != nil {
		http.Error(w, `{"code":"invalid_argument","message":"no subscription"}`, http.StatusBadRequest)
		return
	}
	if p.auto.Load() {
		p.mu.Lock()
		at := p.frontier
		p.mu.Unlock()
		o.ready(at, 15_000)
	} else {
		p.opens <- o
	}
	p.mu.Lock()
	p.streams = append(p.streams, o)
	p.changed()
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.streams = slices.DeleteFunc(p.streams, func(one *opened) bool { return one == o })
		p.changed()
		p.mu.Unlock()
	}()
	begun := false
	for {
		var text string
		select {
		case <-r.Context().Done():
			return
		case text = <-o.frames:
		case <-o.ended:
			select {
			case text = <-o.frames: // what was said before the end
			default:
				if o.status != 0 {
					for name := range o.header {
						w.Header().Set(name, o.header.Get(name))
					}
					reply{o.status, "", o.body}.write(w)
				}
				return
			}
		}
		if !begun {
			w.Header().Set("Content-Type", "text/event-stream")
			begun = true
		}
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // the client went
	}
}

// call is a read.
func (p *play) call(w http.ResponseWriter, r *http.Request) {
	var request map[string]string
	raw := []byte(r.URL.Query().Get("message"))
	if r.URL.Query().Get("base64") == "1" {
		raw, _ = base64.RawURLEncoding.DecodeString(strings.TrimRight(string(raw), "="))
	}
	if r.Method == http.MethodPost {
		raw, _ = io.ReadAll(r.Body) // half of it is no request either
	}
	_ = json.Unmarshal(raw, &request) // the same
	one := &read{atLeast: strings.Join(r.Header.Values(atLeast), ", "), at: time.Now(), reply: make(chan reply, 1)}
	p.mu.Lock()
	for _, q := range p.queries {
		if q.Procedure == r.URL.Path && (request["parent"] == q.Request["parent"] && request["name"] == q.Request["name"]) {
			one.name = q.Name
		}
	}
	at, value := p.frontier, p.values[one.name]
	p.mu.Unlock()
	if one.name == "" {
		http.Error(w, `{"code":"unimplemented","message":"not in the script"}`, http.StatusNotFound)
		return
	}
	if p.auto.Load() {
		if strings.HasSuffix(r.URL.Path, "/GetMessage") {
			one.answerOne(at, value)
		} else {
			one.answer(at, value)
		}
	} else {
		p.reads <- one
	}
	select {
	case <-r.Context().Done():
	case answer := <-one.reply:
		answer.write(w)
	}
}

// mutation is CreateMessage: its answer is made of the request's own body, so that the
// script says what it is in the command: the stamp, a space, Freshet-Topics.
func (p *play) mutation(w http.ResponseWriter, r *http.Request) {
	var request struct{ Message struct{ Body string } }
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &request) // who sends none gets no stamp
	stamp, topics, _ := strings.Cut(request.Message.Body, " ")
	if topics != "" {
		w.Header().Set("Freshet-Topics", topics)
	}
	reply{http.StatusOK, stamp, `{"message":{"name":"conversations/1/messages/1"}}`}.write(w)
}
