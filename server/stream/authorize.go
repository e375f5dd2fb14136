package stream

import (
	"context"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
)

// askAtOnce is how many streams Reauthorize asks about at a time.
const askAtOnce = 16

// granted are the streams whose grant can be asked for again.
type granted struct {
	round atomic.Uint64 // of Reauthorize: a stream that was granted before it is asked again

	mu  sync.Mutex // guards all
	all map[*session]struct{}
}

// authorize asks whether ctx's principal may follow the topics.
func (s *Server) authorize(ctx context.Context, topics []string) *refusal {
	if s.config.Authorize == nil {
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

// remember has Reauthorize ask about the session. Where that has begun since the
// session was granted, in round, it may have missed it: so it is asked here.
func (s *Server) remember(ctx context.Context, of *session, round uint64) *refusal {
	if s.config.Authorize == nil || s.config.Remember == nil {
		return nil
	}
	of.who = s.config.Remember(ctx)
	s.granted.mu.Lock()
	if s.granted.all == nil {
		s.granted.all = map[*session]struct{}{}
	}
	s.granted.all[of] = struct{}{}
	s.granted.mu.Unlock()
	if s.granted.round.Load() == round {
		return nil
	}
	return s.authorize(ctx, of.sub.List())
}

func (s *Server) forget(of *session) {
	if of.who == nil {
		return
	}
	s.granted.mu.Lock()
	defer s.granted.mu.Unlock()
	delete(s.granted.all, of)
}

// Reauthorize asks again about every open stream, and ends those that are denied:
// from then on they are told nothing more. One about which nothing can be told now
// stays. It returns when all have been asked, or ctx ends, with ctx's error.
func (s *Server) Reauthorize(ctx context.Context) error {
	s.granted.round.Add(1)
	s.granted.mu.Lock()
	all := make([]*session, 0, len(s.granted.all))
	for of := range s.granted.all {
		all = append(all, of)
	}
	s.granted.mu.Unlock()
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for _, of := range all {
		if ctx.Err() != nil {
			break
		}
		asking.Go(func() error {
			s.askAgain(ctx, of)
			return nil
		})
	}
	_ = asking.Wait() // none fails
	return ctx.Err()
}

func (s *Server) askAgain(ctx context.Context, of *session) {
	asking, cancel := context.WithCancel(of.who)
	defer cancel()
	unhook := context.AfterFunc(ctx, cancel)
	defer unhook()
	topics := of.sub.List()
	if len(topics) == 0 {
		return // it has ended
	}
	err := s.config.Authorize(asking, topics)
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		of.revoked.Store(true)
		of.sub.Signal()
		s.metrics.revoked.Inc()
	}
}
