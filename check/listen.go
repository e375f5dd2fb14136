package check

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
)

// transport is a way to subscribe.
type transport uint8

const (
	getStream transport = iota
	postStream
	watchStream
	transports
)

func (t transport) String() string { return [...]string{"GET", "POST", "Watch"}[t] }

// subscription is what a stream is opened with.
type subscription struct {
	topics   []string // as the server writes them
	since    freshet.Revision
	sinceBy  map[string]freshet.Revision
	throttle time.Duration // negative: the server's
}

// streams is how clients reach the server's streams.
type streams struct {
	freshet *client.Client
	watch   freshetv1connect.InvalidationServiceClient
	http    *http.Client
	url     string
	token   func(context.Context) (string, error) // nil: none
}

// follow keeps a stream open, as client.Client.Stream does, until ctx ends. By
// POST that is so for the first connection only: where it breaks, the client
// package goes on by GET.
func (s *streams) follow(ctx context.Context, by transport, sub subscription, sink func(client.Event) error) error {
	if by == watchStream {
		return s.followWatch(ctx, sub, sink)
	}
	var opts []client.StreamOption
	if !sub.since.IsZero() {
		opts = append(opts, client.WithSince(sub.since))
	}
	sinceBy := sub.sinceBy
	if by == postStream && len(sinceBy) == 0 && !sub.since.IsZero() {
		// Its own since for a topic is what makes the client package POST.
		sinceBy = map[string]freshet.Revision{sub.topics[0]: sub.since}
	}
	if len(sinceBy) > 0 {
		opts = append(opts, client.WithSinceByTopic(sinceBy))
	}
	if sub.throttle >= 0 {
		opts = append(opts, client.WithThrottle(sub.throttle))
	}
	return s.freshet.Stream(ctx, sub.topics, sink, opts...)
}

// followWatch connects again and again, since the last revision.
func (s *streams) followWatch(ctx context.Context, sub subscription, sink func(client.Event) error) error {
	const first, longest = 50 * time.Millisecond, time.Second
	wait := first
	for {
		err := s.watchOnce(ctx, sub, func(e client.Event) error {
			switch e := e.(type) {
			case client.Invalidate:
				sub.since, sub.sinceBy = sub.since.Max(e.Revision), nil
			case client.Ready:
				sub.since, sub.sinceBy, wait = sub.since.Max(e.Revision), nil, first
			case client.Reset:
				sub.since, sub.sinceBy = e.Revision, nil
			case client.Frontier:
				sub.since, sub.sinceBy = sub.since.Max(e.Revision), nil
			}
			return sink(e)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if code := connect.CodeOf(err); code == connect.CodeInvalidArgument || code == connect.CodeUnimplemented || code == connect.CodePermissionDenied {
			return err
		}
		if err := sink(client.Disconnected{Err: err, Retry: wait}); err != nil {
			return err
		}
		pass(ctx, wait)
		wait = min(2*wait, longest)
	}
}

var errSilent = errors.New("silence for longer than 2.5 heartbeats")

// watchOnce follows one call of Watch to its end. A list in parts comes whole.
func (s *streams) watchOnce(ctx context.Context, sub subscription, sink func(client.Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := 15 * time.Second
	dog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer dog.Stop()
	req := connect.NewRequest(&freshetv1.WatchRequest{Topics: sub.topics, Since: sub.since.String(), SinceByTopic: texts(sub.sinceBy)})
	if sub.throttle >= 0 {
		req.Msg.Throttle = durationpb.New(sub.throttle)
	}
	if token, err := s.bearer(ctx); err != nil {
		return err
	} else if token != "" {
		req.Header().Set("Authorization", "Bearer "+token)
	}
	stream, err := s.watch.Watch(ctx, req)
	if err != nil {
		return causeOr(ctx, err)
	}
	defer func() { _ = stream.Close() }() // its end has been seen
	if err := sink(client.Connected{}); err != nil {
		return err
	}
	var parts []string
	for stream.Receive() {
		dog.Stop()
		e, err := eventOf(stream.Msg())
		if err != nil {
			return err
		}
		if ready, ok := e.(client.Ready); ok && ready.Heartbeat > 0 {
			silence = ready.Heartbeat * 5 / 2
		}
		if part, ok := e.(client.Invalidate); ok {
			if parts = append(parts, part.Topics...); part.Revision.IsZero() {
				dog.Reset(silence)
				continue
			}
			part.Topics, parts = parts, nil
			e = part
		}
		if e != nil {
			if err := sink(e); err != nil {
				return err
			}
		}
		dog.Reset(silence)
	}
	if stream.Err() == nil {
		return io.EOF
	}
	return causeOr(ctx, stream.Err())
}

// causeOr is why ctx ended, or the error if it didn't.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func eventOf(m *freshetv1.WatchResponse) (client.Event, error) {
	millis := func(ms uint64) time.Duration { return time.Duration(min(ms, 1<<40)) * time.Millisecond } //nolint:gosec // bounded
	switch e := m.GetEvent().(type) {
	case *freshetv1.WatchResponse_Invalidate_:
		told := client.Invalidate{Topics: e.Invalidate.GetTopics(), Spread: millis(uint64(e.Invalidate.GetSpreadMs()))}
		if e.Invalidate.GetRevision() == "" {
			return told, nil
		}
		var err error
		told.Revision, err = freshet.ParseRevision(e.Invalidate.GetRevision())
		return told, err
	case *freshetv1.WatchResponse_Ready_:
		rev, err := freshet.ParseRevision(e.Ready.GetRevision())
		return client.Ready{Revision: rev, Topics: int(e.Ready.GetTopics()), Heartbeat: millis(uint64(e.Ready.GetHeartbeatMs()))}, err
	case *freshetv1.WatchResponse_Reset_:
		rev, err := freshet.ParseRevision(e.Reset_.GetRevision())
		return client.Reset{Revision: rev, Reason: e.Reset_.GetReason()}, err
	case *freshetv1.WatchResponse_Frontier_:
		rev, err := freshet.ParseRevision(e.Frontier.GetRevision())
		return client.Frontier{Revision: rev, Lag: millis(e.Frontier.GetLagMs())}, err
	}
	return nil, nil // one that a later server may send
}

func (s *streams) bearer(ctx context.Context) (string, error) {
	if s.token == nil {
		return "", nil
	}
	return s.token(ctx)
}

func texts(revs map[string]freshet.Revision) map[string]string {
	out := make(map[string]string, len(revs))
	for topic, rev := range revs {
		out[topic] = rev.String()
	}
	return out
}

// catchUp opens a stream once, by GET or POST, and hands over its frames as they
// come, parts too, until sink returns false or the stream ends. The client
// package would put parts together, and would not tell ids of data.
func (s *streams) catchUp(ctx context.Context, by transport, sub subscription, lastEventID bool, sink func(Frame) bool) error {
	req, err := s.request(ctx, by, sub, lastEventID)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it is read only
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	const longest = 1 << 20
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, longest)
	var event rawEvent
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			event.id = value
		case "event":
			event.name = value
		case "data":
			event.data += value
		case "":
			f, err := event.frame()
			if err != nil {
				return err
			}
			if f != nil && !sink(*f) {
				return nil
			}
			event = rawEvent{}
		}
	}
	return cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
}

func (s *streams) request(ctx context.Context, by transport, sub subscription, lastEventID bool) (*http.Request, error) {
	query := url.Values{}
	if sub.throttle >= 0 {
		query.Set("throttle", fmt.Sprint(sub.throttle.Milliseconds()))
	}
	method, body := http.MethodGet, []byte(nil)
	if by == postStream {
		method = http.MethodPost
		request := map[string]any{"topics": sub.topics}
		if !sub.since.IsZero() {
			request["since"] = sub.since.String()
		}
		if len(sub.sinceBy) > 0 {
			request["since_by_topic"] = texts(sub.sinceBy)
		}
		var err error
		if body, err = json.Marshal(request); err != nil {
			return nil, err
		}
	} else {
		query["topic"] = sub.topics
		if !sub.since.IsZero() && !lastEventID {
			query.Set("since", sub.since.String())
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.url, "/")+"/events?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	} else if lastEventID && !sub.since.IsZero() {
		req.Header.Set("Last-Event-ID", sub.since.String())
	}
	token, err := s.bearer(ctx)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, err
}

// rawEvent is an event of a stream as it came.
type rawEvent struct{ id, name, data string }

// frame is nil for what isn't an event of version 1. Its revision is the id's, if
// there is one: that is what promises something.
func (e rawEvent) frame() (*Frame, error) {
	kind := slices.Index(frameNames, e.name)
	if e.data == "" || kind < 0 || FrameKind(kind) == Subscribe {
		return nil, nil
	}
	var data struct {
		Revision string
		Topics   json.RawMessage
	}
	if err := json.Unmarshal([]byte(e.data), &data); err != nil {
		return nil, err
	}
	f := &Frame{Kind: FrameKind(kind)}
	if f.Kind == Invalidate {
		if err := json.Unmarshal(data.Topics, &f.Topics); err != nil {
			return nil, err
		}
		if e.id == "" {
			f.Kind, e.id = Part, data.Revision
		}
	}
	var err error
	f.Revision, err = freshet.ParseRevision(e.id)
	return f, err
}
