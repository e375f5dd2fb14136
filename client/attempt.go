package client

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-dev/freshet"
)

// attempt is one stream to the server, from its request to its end. But for what says
// otherwise it belongs to the stream's goroutine.
type attempt struct {
	idle    *idleTimer
	cancel  context.CancelFunc
	verdict chan error // on what was told; capacity 1
	token   string     // set before it tells anything
	node    int64      // that it goes to
	readyAt time.Time  // that it was taken for ready; zero: it wasn't

	part []string // topics of a split list whose last frame is still to come

	// Of the next one, until it takes the current one's place:
	isOpen bool
	held   []Invalidate // its catch-up, which isn't told yet
	ready  *Ready       // has come; it waits, and nothing more is read
	since  time.Time    // ready has come
	// From then on: it may repeat what the other one has told up to here.
	known freshet.Revision
}

// told is what an attempt hands over: that it is open, a frame, or its end.
type told struct {
	by     *attempt
	opened bool
	ended  bool
	frame  frame
	err    error // of the end
}

// open begins an attempt from where the stream is. stale is the token that it should
// not be made with; who renews does without another attempt then.
func (s *stream) open(ctx context.Context, stale string, renews bool) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{idle: &idleTimer{}, cancel: cancel, verdict: make(chan error, 1), node: s.client.nodes.current()}
	a.idle.setLimit(s.client.connectTimeout)
	req, err := s.request(a.node)
	s.attempts.Go(func() {
		if err == nil {
			err = s.attempt(ctx, a, req, stale, renews)
		}
		select {
		case s.told <- told{by: a, ended: true, err: err}:
		case <-ctx.Done(): // nobody asks
		}
	})
	return a
}

// attempt is an attempt's goroutine.
func (s *stream) attempt(ctx context.Context, a *attempt, req request, stale string, renews bool) error {
	if s.client.token != nil {
		token, err := s.client.token(withStale(ctx, stale))
		if err != nil {
			return tokenError{err}
		}
		if renews && token == stale {
			return errSameToken
		}
		s.client.sent.note(token)
		if a.token = token; token != "" {
			req.header["Authorization"] = "Bearer " + token
		}
	}
	return follow(ctx, s.client.http, req, a.idle,
		func() error { return s.handOver(ctx, told{by: a, opened: true}) },
		func(f frame) error { return s.handOver(ctx, told{by: a, frame: f}) })
}

// tokenError is a token source's.
type tokenError struct{ error }

func (e tokenError) Error() string { return "token: " + e.error.Error() }
func (e tokenError) Unwrap() error { return e.error }

// handOver waits for the stream's verdict.
func (s *stream) handOver(ctx context.Context, t told) error {
	select {
	case s.told <- t:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-t.by.verdict:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join puts the parts of a split list together: only the last one carries the
// revision, and the client rule needs it for each topic. most is how many there are.
func (a *attempt) join(e Event, most int) (Event, error) {
	inv, ok := e.(Invalidate)
	if !ok || !inv.Revision.IsZero() && a.part == nil {
		return e, nil
	}
	a.part = append(a.part, inv.Topics...)
	if len(a.part) > most {
		return nil, &ProtocolError{Event: "invalidate", Err: fmt.Errorf(
			"a split list names %d topics, subscribed are %d", len(a.part), most)}
	}
	if inv.Revision.IsZero() {
		if a.part == nil {
			a.part = []string{}
		}
		return nil, nil
	}
	inv.Topics, a.part = a.part, nil
	return inv, nil
}

// knew reports whether the stream before has told all of an event. Once there is one
// of which it hasn't, there are only such.
func (a *attempt) knew(e Event) bool {
	if inv, ok := e.(Invalidate); ok && !a.known.IsZero() && inv.Revision.Compare(a.known) <= 0 {
		return true
	}
	a.known = freshet.Revision{}
	return false
}

// silenceOf is the silence after which a stream with these heartbeats is dead.
func silenceOf(heartbeat time.Duration) time.Duration { return heartbeat * 5 / 2 }
