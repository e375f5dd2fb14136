package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
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
// The error is never nil: ctx.Err(), the sink's own error, a *[StatusError]
// that is not Temporary, or a *[freshet.TopicError] for a topic that can't be
// one. sink is called from this goroutine; while it runs nothing is read, and
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
		idle:    &idleTimer{},
		silence: silenceOf(defaultHeartbeat),
		backoff: backoff{first: c.backoffMin, longest: c.backoffMax},
	}
	return s.run(ctx)
}

// stream is the state of one call of Stream. One goroutine owns it; only the
// idle timer is shared.
type stream struct {
	client  *Client
	topics  []string
	cfg     streamConfig
	sink    func(Event) error
	idle    *idleTimer
	silence time.Duration // allowed between two bytes
	backoff backoff

	last    freshet.Revision // the last id: all up to it has been told
	caught  bool             // there has been a ready or a reset: last stands for every topic
	part    []string         // topics of a split list whose last frame is still to come
	suspect bool             // the attempt before sent nonsense: Ready alone doesn't clear it
}

// sinkError marks an error as the sink's own.
type sinkError struct{ error }

// resumeError of a sink ends the attempt: the stream is in an earlier history
// than since, which the next attempt begins at. The server then proves its own.
type resumeError struct{ since freshet.Revision }

func (e resumeError) Error() string { return "the stream is in an earlier history than an answer" }

func (s *stream) run(ctx context.Context) error {
	for {
		err := s.attempt(ctx)
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
		if refused && !status.Temporary() {
			return err
		}
		_, s.suspect = errors.AsType[*ProtocolError](err)
		wait := s.backoff.next()
		if refused {
			wait = max(wait, min(status.RetryAfter, longestWish))
		}
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

// attempt opens the stream once and follows it to its end.
func (s *stream) attempt(ctx context.Context) error {
	s.part = nil
	req, err := s.request(ctx)
	if err != nil {
		return err
	}
	s.idle.setLimit(s.client.connectTimeout)
	opened := func() error {
		s.idle.setLimit(s.silence)
		s.client.logger.LogAttrs(ctx, slog.LevelDebug, "stream opened", slog.String("last", s.last.String()))
		return s.tell(Connected{})
	}
	return follow(ctx, s.client.http, req, s.idle, opened, s.handle)
}

func (s *stream) tell(e Event) error {
	if err := s.sink(e); err != nil {
		return sinkError{err}
	}
	return nil
}

// handle takes one frame. The position moves only after the sink has had the
// event, and only to an id that is a revision.
func (s *stream) handle(f frame) error {
	if ms, err := strconv.ParseUint(f.retry, 10, 32); err == nil && f.retry != "" {
		s.backoff.wish = min(time.Duration(ms)*time.Millisecond, longestWish)
	}
	if len(f.data) > 0 { // WHATWG: without data there is no event
		e, err := decode(f.name, f.data)
		if err != nil {
			return err
		}
		if e, err = s.join(e); err != nil {
			return err
		}
		if e == nil && s.part != nil {
			return nil // the id, if this part repeats one, is an old one
		}
		if e != nil {
			if err := s.took(e); err != nil {
				return err
			}
		}
	}
	if id, err := freshet.ParseRevision(f.id); err == nil {
		s.last = s.last.Max(id)
	}
	return nil
}

// took tells the sink and draws the conclusions that are the stream's own.
func (s *stream) took(e Event) error {
	switch e := e.(type) {
	case Frontier:
		s.backoff.reset()
	case Ready:
		s.caught = true
		if !s.suspect {
			s.backoff.reset()
		}
		if e.Heartbeat > 0 {
			s.silence = silenceOf(e.Heartbeat)
			s.idle.setLimit(s.silence)
		}
	case Reset:
		// Whatever was told before belongs to another history, also if its
		// revisions sort higher: a reconnect continues from here.
		defer func() { s.last, s.caught = e.Revision, true }()
	}
	return s.tell(e)
}

// join puts the parts of a split list together: only the last one carries the
// revision, and the client rule needs it for each topic.
func (s *stream) join(e Event) (Event, error) {
	inv, ok := e.(Invalidate)
	if !ok || !inv.Revision.IsZero() && s.part == nil {
		return e, nil
	}
	s.part = append(s.part, inv.Topics...)
	if len(s.part) > len(s.topics) {
		return nil, &ProtocolError{Event: "invalidate", Err: fmt.Errorf(
			"a split list names %d topics, subscribed are %d", len(s.part), len(s.topics))}
	}
	if inv.Revision.IsZero() {
		if s.part == nil {
			s.part = []string{}
		}
		return nil, nil
	}
	inv.Topics, s.part = s.part, nil
	return inv, nil
}

// silenceOf is the silence after which a stream with these heartbeats is dead.
func silenceOf(heartbeat time.Duration) time.Duration { return heartbeat * 5 / 2 }

// request builds the next attempt's request. Once the stream has caught up, a
// position heard on it replaces every since that the caller gave: all topics
// have been told up to it. Before, it stands for none of them (F88): of topics
// without a since nothing has been told.
func (s *stream) request(ctx context.Context) (request, error) {
	header := maps.Clone(s.client.header)
	// A proxy that compresses is a proxy that buffers.
	header["Accept-Encoding"] = "identity"
	if s.client.token != nil {
		token, err := s.client.token(ctx)
		if err != nil {
			return request{}, fmt.Errorf("token: %w", err)
		}
		if token != "" {
			header["Authorization"] = "Bearer " + token
		}
	}
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
		return request{url: s.client.events + "?" + encoded, header: header}, nil
	}
	query.Del("topic")
	target := s.client.events
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

// longestWish bounds what a server's `retry:` or Retry-After can ask for, so
// that a slip of the keyboard there doesn't silence every client for a day.
const longestWish = 5 * time.Minute

// backoff counts failed attempts and says how long to wait after each.
type backoff struct {
	first, longest time.Duration
	wish           time.Duration // the server's `retry:`; 0: none. It replaces first
	failures       int
}

// next is the wait after one more failure: never less than the server asked
// for, and up to half more, so that clients that fell together don't rise
// together.
func (b *backoff) next() time.Duration {
	d := b.first
	if b.wish > 0 {
		d = b.wish
	}
	longest := max(d, b.longest)
	for range min(b.failures, 32) {
		d = min(2*d, longest)
	}
	b.failures++
	return d + time.Duration(rand.Int64N(int64(d)/2+1)) //nolint:gosec // jitter, not a secret
}

func (b *backoff) reset() { b.failures = 0 }

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
