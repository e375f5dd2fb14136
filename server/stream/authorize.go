package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
)

const (
	// askAtOnce is how many streams are asked about at a time.
	askAtOnce = 16
	// turns is how many parts a round of questions about all streams has.
	turns = 64
	// reserved is where topics of Freshet's own are.
	reserved = "freshet/"
)

// granted are the streams whose grant can be asked for again.
type granted struct {
	round atomic.Uint64 // of questions: a stream that was granted before it is asked again
	news  revocations

	mu   sync.Mutex // guards what follows
	turn uint8      // of the next stream
	all  [turns]map[*session]struct{}
}

func (g *granted) add(of *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of.turn = g.turn
	g.turn = (g.turn + 1) % turns
	if g.all[of.turn] == nil {
		g.all[of.turn] = map[*session]struct{}{}
	}
	g.all[of.turn][of] = struct{}{}
}

func (g *granted) remove(of *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all[of.turn], of)
}

// everyone returns all streams, ofTurn those of one turn.
func (g *granted) everyone() []*session {
	var all []*session
	for turn := range turns {
		all = append(all, g.ofTurn(turn)...)
	}
	return all
}

func (g *granted) ofTurn(turn int) []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	some := make([]*session, 0, len(g.all[turn]))
	for of := range g.all[turn] {
		some = append(some, of)
	}
	return some
}

// authorize asks whether ctx's principal may follow the topics.
func (s *Server) authorize(ctx context.Context, topics []string) *refusal {
	if s.config.Authorize == nil {
		if slices.ContainsFunc(topics, func(topic string) bool { return strings.HasPrefix(topic, reserved) }) {
			return unauthorized(connect.NewError(connect.CodePermissionDenied, errors.New("topics below freshet/ need a grant")))
		}
		return nil
	}
	err := s.config.Authorize(ctx, topics)
	if err == nil {
		return nil
	}
	refused := unauthorized(err)
	if refused.reason == "internal" {
		s.config.Logger.ErrorContext(ctx, "authorize a stream", "error", err)
	}
	return refused
}

// remember has the session asked about again. Where that has begun since the session
// was granted, in round, it may have been missed: so it is asked here.
func (s *Server) remember(ctx context.Context, of *session, round uint64) *refusal {
	if s.config.Authorize == nil || s.config.Remember == nil {
		return nil
	}
	of.who = s.config.Remember(ctx)
	s.granted.add(of)
	if s.granted.round.Load() == round {
		return nil
	}
	return s.authorize(ctx, of.sub.List())
}

func (s *Server) forget(of *session) {
	if of.who != nil {
		s.granted.remove(of)
	}
}

// Reauthorize asks again about every open stream, and ends those that are denied:
// from then on they are told nothing more. One about which nothing can be told now
// stays. It returns when all have been asked, or ctx ends, with ctx's error.
func (s *Server) Reauthorize(ctx context.Context) error {
	s.granted.round.Add(1)
	s.askAbout(ctx, s.granted.everyone())
	return ctx.Err()
}

// askAbout asks again about some streams, and returns those about which nothing can
// be told now.
func (s *Server) askAbout(ctx context.Context, some []*session) (unknown []*session) {
	var mu sync.Mutex // guards unknown
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for _, of := range some {
		if ctx.Err() != nil {
			break
		}
		asking.Go(func() error {
			if !s.askAgain(ctx, of) {
				mu.Lock()
				defer mu.Unlock()
				unknown = append(unknown, of)
			}
			return nil
		})
	}
	_ = asking.Wait() // none fails
	return unknown
}

// askAgain reports whether there was an answer. What panics has none: it would be the
// end of the process, since net/http isn't beneath us here.
func (s *Server) askAgain(ctx context.Context, of *session) (answered bool) {
	asking, cancel := context.WithCancel(of.who)
	defer cancel()
	unhook := context.AfterFunc(ctx, cancel)
	defer unhook()
	topics := of.sub.List()
	if len(topics) == 0 {
		return true // it has ended
	}
	answer := "unknown"
	defer func() {
		if p := recover(); p != nil {
			s.config.Logger.ErrorContext(ctx, "authorize a stream again", "panic", p)
		}
		s.metrics.asked.WithLabelValues(answer).Inc()
	}()
	switch err := s.config.Authorize(asking, topics); {
	case err == nil:
		answer = "granted"
	case connect.CodeOf(err) == connect.CodePermissionDenied, connect.CodeOf(err) == connect.CodeUnauthenticated:
		answer = "denied"
		of.revoke()
	default:
		return false
	}
	return true
}
