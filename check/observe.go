package check

import (
	"context"
	"errors"
	"time"

	"github.com/freshet-dev/freshet/client"
)

var errNotConnected = errors.New("a client isn't connected")

// checkpoint holds every client against Postgres, when it had two heartbeats
// time.
func (r *run) checkpoint(ctx context.Context) {
	r.phase("converging")
	r.calm.Store(true)
	patience := 2 * time.Second
	for _, s := range r.subjects {
		s.mu.Lock()
		patience = max(patience, 2*s.heartbeat+2*time.Second)
		s.mu.Unlock()
	}
	truth, err := r.holds(ctx)
	if err != nil {
		r.rec.failed("read the truth", err)
		return
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, s := range r.subjects {
		views := s.await(limit, truth, r.rec.now)
		if limit.Err() != nil && ctx.Err() == nil {
			// Did the truth change? A write whose answer was lost may have.
			if truth, err = r.holds(ctx); err != nil {
				r.rec.failed("read the truth", err)
				return
			}
			views = s.await(limit, truth, r.rec.now)
		}
		if ctx.Err() != nil {
			return
		}
		if views == nil {
			r.rec.failed("convergence", errNotConnected)
		}
		r.rec.view(views...)
	}
}

// holds is what Postgres holds; without a database, what strong reads say.
func (r *run) holds(ctx context.Context) (map[string][]Cell, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if r.truth != nil {
		return r.truth.Read(ctx, r.conversations)
	}
	truth := map[string][]Cell{}
	for _, c := range r.conversations {
		read := Read{Conversation: c}
		if err := list(ctx, r.messages, &read); err != nil {
			return nil, err
		}
		truth[c] = read.Cells
	}
	return truth, nil
}

// witness follows everything and looks on the primary whenever it is told.
func (r *run) witness(ctx context.Context, session Session) {
	var topics []string
	for _, c := range r.conversations {
		topics = append(topics, topicOf(c))
	}
	const name = "witness"
	subject := &subject{name: name, rec: r.rec}
	r.rec.frame(Frame{Client: name, At: r.rec.now(), Kind: Subscribe, Topics: r.conversations})
	err := r.freshet.Stream(ctx, topics, func(e client.Event) error {
		subject.record(e)
		told, ok := e.(client.Invalidate)
		if !ok {
			return nil
		}
		var conversations []string
		for _, topic := range told.Topics {
			conversations = append(conversations, conversationOf(topic))
		}
		start := r.rec.now()
		held, err := session.Read(ctx, conversations)
		end := r.rec.now()
		if err != nil {
			if ctx.Err() == nil {
				r.rec.failed("witness", err)
			}
			return nil
		}
		for _, c := range conversations {
			r.rec.read(Read{Client: name, Conversation: c, Direct: true, Start: start, End: end, Cells: held[c]})
		}
		return nil
	}, client.WithThrottle(0))
	if ctx.Err() == nil {
		r.rec.failed("stream refused", err)
	}
}

// locate asks for exact positions while the run goes on, so that the slot holds
// little.
func (r *run) locate(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.locateOnce(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) locateOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	positions, err := r.cfg.Database.Positions(ctx)
	if err != nil && ctx.Err() == nil {
		r.rec.failed("positions", err)
	}
	r.rec.locate(positions)
}

// settle asks the database about transactions whose COMMIT had no answer.
func (r *run) settle(ctx context.Context) {
	at, writes := r.rec.unsettled()
	if len(writes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	outcomes, err := r.cfg.Database.Outcomes(ctx, writes)
	if err != nil {
		r.rec.failed("outcomes", err)
		return
	}
	r.rec.settle(at, outcomes)
}
