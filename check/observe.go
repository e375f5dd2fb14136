package check

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/freshet-dev/freshet/client"
)

var errNotConnected = errors.New("a client isn't connected")

// checkpoint holds every client against Postgres, once it has had the time to
// converge.
func (r *run) checkpoint(ctx context.Context) {
	r.phase("converging")
	r.calm.Store(true)
	patience := r.cfg.Patience
	for _, s := range r.subjects {
		s.mu.Lock()
		patience = max(patience, 2*s.heartbeat+2*time.Second)
		s.mu.Unlock()
	}
	if r.cfg.Stage != nil {
		patience += 2 * r.cfg.Stage.Look
	}
	began := r.rec.now()
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	truth, err := r.holds(ctx)
	for i := 0; err == nil && i < len(r.subjects); i++ {
		var views []View
		views, truth, err = r.converge(ctx, limit, r.subjects[i], truth)
		if ctx.Err() != nil {
			return
		}
		if views == nil && err == nil {
			r.rec.failed("convergence", errNotConnected)
		}
		r.rec.view(views...)
	}
	switch {
	case err != nil:
		r.rec.failed("read the truth", err)
	case limit.Err() == nil:
		r.converged.add(r.rec.now() - began)
	}
}

// countReplica asks how many reads the standby has served.
func (r *run) countReplica(ctx context.Context) {
	if !r.cfg.has(standby) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n, err := r.cfg.Stage.Standby.Reads(ctx)
	if err != nil {
		r.rec.failed("count the replica's reads", err)
	}
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	r.rec.done[onReplica] = n
}

// converge waits for one client. What Postgres holds may have changed since it
// was read: a write whose answer was lost may be done late. So only a difference
// counts that is still there when the truth has been read again and was the same.
func (r *run) converge(ctx, limit context.Context, s *subject, truth map[string][]Cell) ([]View, map[string][]Cell, error) {
	for {
		slice, cancel := context.WithTimeout(ctx, time.Second)
		views := s.await(slice, truth, r.rec.now)
		done := slice.Err() == nil
		cancel()
		if done || ctx.Err() != nil {
			return views, truth, nil
		}
		again, err := r.holds(ctx)
		if err != nil {
			return nil, truth, err
		}
		same := maps.EqualFunc(truth, again, slices.Equal[[]Cell])
		if truth = again; limit.Err() != nil && same {
			return views, truth, nil
		}
	}
}

// holds is what Postgres holds; without a database, what strong reads say.
func (r *run) holds(ctx context.Context) (map[string][]Cell, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if r.truth != nil {
		return r.truth.Read(ctx, r.places)
	}
	truth := map[string][]Cell{}
	for _, c := range r.places {
		read := Read{Topic: c}
		if err := r.readers[byPost].read(ctx, &read); err != nil {
			return nil, err
		}
		truth[c] = read.Cells
	}
	return truth, nil
}

// witness follows everything and looks on the primary whenever it is told.
func (r *run) witness(ctx context.Context, session Session) {
	const name = "witness"
	subject := &subject{name: name, rec: r.rec}
	topics := slices.Concat(r.places, r.service.wide(), r.own)
	r.rec.frame(Frame{Client: name, At: r.rec.now(), Kind: Subscribe, Topics: topics})
	err := r.streams.follow(ctx, getStream, subscription{topics: r.names.fullAll(topics)}, func(e client.Event) error {
		told, ok := e.(client.Invalidate)
		if !ok {
			subject.record(e)
			return nil
		}
		told.Topics = r.names.shortAll(told.Topics)
		subject.record(told)
		places := slices.DeleteFunc(slices.Clone(told.Topics), func(topic string) bool { return kindOf(topic) != OfPlace })
		start := r.rec.now()
		held, err := session.Read(ctx, places)
		end := r.rec.now()
		if err != nil {
			if ctx.Err() == nil {
				r.rec.failed("witness", err)
			}
			return nil
		}
		for _, c := range places {
			r.rec.read(Read{Client: name, Topic: c, Direct: true, Start: start, End: end, Content: contentOf(c, held)})
		}
		r.rec.did("SELECT on the primary")
		return nil
	})
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

// settle asks the database about transactions whose COMMIT had no answer. If it
// can't be asked, that is done after the next round.
func (r *run) settle(ctx context.Context) {
	writes := r.rec.open()
	if len(writes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	question := make([]Write, 0, len(writes))
	for _, w := range writes {
		question = append(question, *w)
	}
	outcomes, err := r.cfg.Database.Outcomes(ctx, question)
	if err != nil {
		r.rec.failed("outcomes", err)
		return
	}
	for i, outcome := range outcomes {
		writes[i].Outcome = outcome
	}
	r.rec.closed()
}

// close ends a window: all its writes are known, and it is judged.
func (r *run) close(ctx context.Context) {
	r.phase("judging")
	if r.truth != nil {
		r.locateOnce(context.WithoutCancel(ctx))
		r.settle(context.WithoutCancel(ctx))
	}
	r.countReplica(ctx)
	h := r.rec.cut()
	_, before := r.judge.figures()
	r.judge.take(h)
	r.judge.x.latencies(r.unthrottled(), r.caused[r.judged:], &r.quiet, &r.disturbed)
	r.judged = len(r.caused)
	observations, violations := r.judge.figures()
	if violations > before && before == 0 && r.cfg.Condemned != nil {
		r.cfg.Condemned(r.judge.x.withWrites())
	}
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	r.rec.progress.Observations, r.rec.progress.Violations = observations, violations
}
