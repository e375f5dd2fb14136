package client

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-dev/freshet"
)

// StreamOption configures one call of [Client.Stream].
type StreamOption func(*streamConfig)

type streamConfig struct {
	since        freshet.Revision
	sinceByTopic map[string]freshet.Revision
	throttle     time.Duration // negative: the server's default
}

// WithSince says what the caller's data is stamped with: changes after it are
// told before Ready. Without it the stream begins with Ready.
func WithSince(rev freshet.Revision) StreamOption { return func(c *streamConfig) { c.since = rev } }

// WithSinceByTopic says it for single topics; WithSince holds for the others.
func WithSinceByTopic(revs map[string]freshet.Revision) StreamOption {
	return func(c *streamConfig) { c.sinceByTopic = revs }
}

// WithThrottle sets the least time between two notices, 0 to 10 s. The first
// leaves at once, later ones are merged, the last is never lost. The default is
// the server's (100 ms).
func WithThrottle(d time.Duration) StreamOption { return func(c *streamConfig) { c.throttle = d } }

const (
	defaultHeartbeat = 15 * time.Second // until Ready says otherwise
	maxQuery         = 2 << 10          // bytes; a longer list is POSTed
)

// Stream follows topics and hands every event to sink, until ctx ends, sink
// returns an error, or the server refuses the request for good. It reconnects
// by itself, with growing jittered waits, from the last revision it was told.
//
// With a token source it doesn't wait for the token's end: it opens the next stream
// with a fresh one in time, and leaves the other when the next one is caught up. The
// sink is told [Renewed] of it, or [RenewalFailed].
//
// The error is never nil: ctx.Err(), the sink's own error, a *[StatusError]
// that is not Temporary (but a 401, if there is a token source and the stream was up
// before, or the source has another token), or a *[freshet.TopicError] for a topic that
// can't be one. Where a StatusError names Topics, the others can be followed without
// them. sink is called from this goroutine; while it runs nothing is read, and
// the server merges what it has to say.
func (c *Client) Stream(ctx context.Context, topics []string, sink func(Event) error, opts ...StreamOption) error {
	if len(topics) == 0 {
		return errors.New("no topics to follow")
	}
	for _, topic := range topics {
		if err := freshet.CheckTopic(topic); err != nil {
			return err
		}
	}
	cfg := streamConfig{throttle: -1}
	for _, opt := range opts {
		opt(&cfg)
	}
	s := &stream{
		client:  c,
		topics:  slices.Compact(slices.Sorted(slices.Values(topics))),
		cfg:     cfg,
		sink:    sink,
		backoff: backoff{first: c.backoffMin, longest: c.backoffMax},
		told:    make(chan told),
		silence: silenceOf(defaultHeartbeat),
		renewal: newRenewal(c),
	}
	defer s.attempts.Wait()
	return s.run(ctx)
}

// stream is the state of one call of Stream, and its goroutine's. Attempts have
// goroutines of their own, which hand over what they read and wait for a verdict.
type stream struct {
	client  *Client
	topics  []string
	cfg     streamConfig
	sink    func(Event) error
	backoff backoff
	silence time.Duration // allowed between two bytes

	told     chan told      // by attempts
	attempts sync.WaitGroup // that have a goroutine
	current  *attempt       // whose events are told
	next     *attempt       // with a fresh token, to take its place; nil: none
	renewal  renewal

	last    freshet.Revision // the last id: all up to it has been told
	caught  bool             // there has been a ready or a reset: last stands for every topic
	suspect bool             // the attempt before sent nonsense: Ready alone doesn't clear it
	refused string           // the token that the server refused last
	tried   int              // nodes that have failed since a stream lasted
}

// sinkError marks an error as the sink's own.
type sinkError struct{ error }

// resumeError of a sink ends the attempt: the stream is in an earlier history
// than since, which the next attempt begins at. The server then proves its own.
type resumeError struct{ since freshet.Revision }

func (e resumeError) Error() string { return "the stream is in an earlier history than an answer" }

func (s *stream) run(ctx context.Context) error {
	for {
		err := s.watch(ctx)
		if own, ok := errors.AsType[sinkError](err); ok {
			resume, ok := own.error.(resumeError) //nolint:errorlint // ours, as it is
			if !ok {
				return own.error
			}
			s.last, s.caught = resume.since, true
			err = &ProtocolError{Event: "revision", Err: resume}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		status, refused := errors.AsType[*StatusError](err)
		if refused && !status.Temporary() && !s.mayRenew(status) {
			return err
		}
		_, s.suspect = errors.AsType[*ProtocolError](err)
		wait := s.pause(err, status)
		s.client.logger.LogAttrs(ctx, slog.LevelDebug, "stream ended",
			slog.Any("error", err), slog.Duration("retry", wait), slog.String("last", s.last.String()))
		if err := s.sink(Disconnected{Err: err, Retry: wait}); err != nil {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// pause is how long to wait for the next attempt after one has failed: not at all if
// there is a node left that hasn't been tried since a stream lasted.
func (s *stream) pause(err error, refused *StatusError) time.Duration {
	if ready := s.current.readyAt; !ready.IsZero() && time.Since(ready) >= s.backoff.first {
		s.tried = 0 // else nodes that all end streams right after ready would be asked in a circle
	}
	if isNodes(err) {
		s.client.nodes.failed(s.current.node)
		if s.tried++; s.tried < len(s.client.nodes.urls) {
			return 0
		}
		s.tried = 0
	}
	wait := s.backoff.next()
	if refused != nil {
		wait = max(wait, min(refused.RetryAfter, longestWish))
	}
	return wait
}

// isNodes reports whether another node may do better: a token, a grant or a quota
// would be the same there.
func isNodes(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status >= 500 || status.Status == http.StatusRequestTimeout
	}
	if _, ok := errors.AsType[*EndError](err); ok {
		return false
	}
	_, ok := errors.AsType[tokenError](err)
	return !ok
}

// mayRenew reports whether another token may help. Of a stream that has never been
// up, a token source that has no other one to offer decides: this one is wrong.
func (s *stream) mayRenew(status *StatusError) bool {
	if status.Status != http.StatusUnauthorized || s.client.token == nil {
		return false
	}
	other := s.caught || s.current.token != s.refused
	s.refused = s.current.token
	return other
}

// watch opens the stream and tells the sink of it until it ends, and with it the one
// that was to take its place.
func (s *stream) watch(ctx context.Context) error {
	defer func() {
		s.current.cancel()
		s.abandonNext()
		s.renewal.stop()
	}()
	s.current = s.open(ctx, s.refused, false)
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.renewal.due.C:
			s.next = s.open(ctx, s.current.token, true)
		case <-s.renewal.overlap.C:
			err = s.switchOver()
		case t := <-s.told:
			switch t.by {
			case s.current:
				err = s.hear(ctx, t)
			case s.next:
				err = s.hearNext(ctx, t)
			}
		}
		if err != nil {
			return err
		}
	}
}

// hear takes what the current attempt tells. An error is of the stream, not of the
// attempt alone: the sink's own, or how the attempt has ended.
func (s *stream) hear(ctx context.Context, t told) error {
	var err error
	switch {
	case t.ended && s.next != nil:
		return s.moveOn(t.err)
	case t.ended:
		return t.err
	case t.opened:
		t.by.idle.setLimit(s.silence)
		s.client.logger.LogAttrs(ctx, slog.LevelDebug, "stream opened", slog.String("last", s.last.String()))
		err = s.tell(Connected{})
	default:
		err = s.handle(t.by, t.frame)
	}
	return s.answer(t.by, err)
}

// answer lets an attempt go on, or has it end by an error; the sink's ends the stream.
// If it goes on it may have told what the next one waits for.
func (s *stream) answer(a *attempt, err error) error {
	a.verdict <- err
	if _, ok := errors.AsType[sinkError](err); ok {
		return err
	}
	if err == nil && s.next != nil && s.next.ready != nil && s.isRepeated(s.next) {
		return s.switchOver()
	}
	return nil
}

func (s *stream) tell(e Event) error {
	if err := s.sink(e); err != nil {
		return sinkError{err}
	}
	return nil
}

// handle takes one frame of the current attempt. The position moves only after the
// sink has had the event, and only to an id that is a revision.
func (s *stream) handle(a *attempt, f frame) error {
	e, err := s.read(a, f)
	switch {
	case err != nil:
		return err
	case e == nil && a.part != nil:
		return nil // the id, if this part repeats one, is an old one
	case e != nil && !a.knew(e):
		if err := s.took(a, e); err != nil {
			return err
		}
	}
	if id, err := freshet.ParseRevision(f.id); err == nil {
		s.last = s.last.Max(id)
	}
	return nil
}

// read returns the event of a frame, if that has one and it is whole.
func (s *stream) read(a *attempt, f frame) (Event, error) {
	if ms, err := strconv.ParseUint(f.retry, 10, 32); err == nil && f.retry != "" {
		s.backoff.wish = min(time.Duration(ms)*time.Millisecond, longestWish)
	}
	if len(f.data) == 0 { // WHATWG: without data there is no event
		return nil, nil
	}
	e, err := decode(f.name, f.data)
	if err != nil {
		return nil, err
	}
	return a.join(e, len(s.topics))
}

// took tells the sink and draws the conclusions that are the stream's own.
func (s *stream) took(a *attempt, e Event) error {
	switch e := e.(type) {
	case Frontier:
		s.backoff.reset()
	case Ready:
		s.caught = true
		if !s.suspect {
			s.backoff.reset()
		}
		s.settle(a, e, e.ExpiresIn)
	case Reset:
		// Whatever was told before belongs to another history, also if its
		// revisions sort higher: a reconnect continues from here.
		defer func() { s.last, s.caught = e.Revision, true }()
		if s.next != nil { // it has begun at an id of that history
			s.abandonNext()
			s.renewal.again()
		}
	}
	return s.tell(e)
}

// settle takes what ready says of the attempt itself; left is how long its token
// still counts.
func (s *stream) settle(a *attempt, e Ready, left time.Duration) {
	a.readyAt = time.Now()
	if e.Heartbeat > 0 {
		s.silence = silenceOf(e.Heartbeat)
		a.idle.setLimit(s.silence)
	}
	s.refused = ""
	s.renewal.plan(left)
}

// request builds the next attempt's request. Once the stream has caught up, a
// position heard on it replaces every since that the caller gave: all topics
// have been told up to it. Before, it stands for none of them (F88): of topics
// without a since nothing has been told.
func (s *stream) request(node int64) (request, error) {
	events := *s.client.nodes.url(node)
	events.Path += "/events"
	target := events.String()
	header := maps.Clone(s.client.header)
	// A proxy that compresses is a proxy that buffers.
	header["Accept-Encoding"] = "identity"
	since, byTopic := s.cfg.since, s.cfg.sinceByTopic
	resumes := s.caught && !s.last.IsZero()
	if resumes {
		since, byTopic = s.last, nil
	}

	query := url.Values{"topic": s.topics}
	if s.cfg.throttle >= 0 {
		query.Set("throttle", strconv.FormatInt(s.cfg.throttle.Milliseconds(), 10))
	}
	if encoded := query.Encode(); len(byTopic) == 0 && len(encoded) <= maxQuery {
		switch {
		case resumes:
			header["Last-Event-ID"] = s.last.String()
		case !since.IsZero():
			encoded += "&since=" + since.String()
		}
		return request{url: target + "?" + encoded, header: header}, nil
	}
	query.Del("topic")
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	body, err := json.Marshal(struct {
		Topics       []string          `json:"topics"`
		Since        string            `json:"since,omitempty"`
		SinceByTopic map[string]string `json:"since_by_topic,omitempty"`
	}{s.topics, since.String(), texts(byTopic)})
	return request{url: target, header: header, body: body}, err
}

func texts(revs map[string]freshet.Revision) map[string]string {
	out := make(map[string]string, len(revs))
	for topic, rev := range revs {
		if !rev.IsZero() {
			out[topic] = rev.String()
		}
	}
	return out
}
