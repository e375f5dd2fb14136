package check

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
)

var errNotConnected = errors.New("a client isn't connected")

// checkpoint holds every client against Postgres, once it has had the time to
// converge, and returns what Postgres holds; nil: it can't be asked, or what it is at
// isn't what is served.
func (r *run) checkpoint(ctx context.Context) *Held {
	r.phase("converging")
	r.calm.Store(true)
	b := bound{patience: r.cfg.Patience, began: r.rec.now(), stood: r.rec.stood()}
	for _, s := range r.subjects {
		s.mu.Lock()
		b.patience = max(b.patience, 2*s.heartbeat+2*time.Second)
		s.mu.Unlock()
	}
	if r.cfg.Stage != nil {
		b.patience += 2 * r.cfg.Stage.Look
	}
	held, err := r.await(ctx, b)
	for i := 0; err == nil && i < len(r.subjects); i++ {
		var views []View
		views, held, err = r.converge(ctx, b, r.subjects[i], held)
		if ctx.Err() != nil {
			return nil
		}
		if views == nil && err == nil {
			r.rec.failed("convergence", errNotConnected)
		}
		r.rec.view(views...)
	}
	if err != nil {
		r.rec.failed("read the truth", err)
		return nil
	}
	if took := r.rec.now() - b.began; took < b.patience {
		r.converged.add(took)
	}
	return r.current(held)
}

// current is what Postgres holds, of a history that is served; nil: what it was said to
// hold is of an epoch before the one that somebody has been told, or of none.
func (r *run) current(held *Held) *Held {
	if served, _ := r.rec.epoch(); held != nil && held.Epoch < served {
		return nil
	}
	return held
}

// await asks what Postgres holds until it says so.
func (r *run) await(ctx context.Context, b bound) (*Held, error) {
	for {
		held, err := r.holds(ctx)
		if err == nil || ctx.Err() != nil || r.rec.now() > b.last(r.rec) {
			return held, err
		}
		r.rec.failed("read the truth", err)
		pass(ctx, time.Second)
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
// counts that is still there when the truth has been read again and was the same. That
// may take long, and is time in which nobody has looked at the client: it is late if it
// was when it was looked at.
func (r *run) converge(ctx context.Context, b bound, s *subject, held *Held) ([]View, *Held, error) {
	for {
		slice, cancel := context.WithTimeout(ctx, time.Second)
		views := s.await(slice, held.Places, r.rec.now)
		done, looked := slice.Err() == nil, r.rec.now()
		cancel()
		if done || ctx.Err() != nil {
			return views, held, nil
		}
		again, err := r.await(ctx, b)
		if err != nil {
			return nil, held, err
		}
		same := again.Epoch == held.Epoch && maps.EqualFunc(held.Places, again.Places, slices.Equal[[]Cell])
		held = again
		due, known := b.of(s, held, r.rec)
		if !same || looked < due {
			continue
		}
		if !known {
			return nil, held, nil
		}
		return views, held, nil
	}
}

// holds is what Postgres holds; without a database, what strong reads say.
func (r *run) holds(ctx context.Context) (*Held, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if r.truth != nil {
		held, err := r.truth.Read(ctx, r.places)
		if err != nil {
			return nil, err
		}
		return &held, nil
	}
	held := &Held{Places: map[string][]Cell{}}
	held.Epoch, _ = r.rec.epoch() // there is no other to compare it with
	for _, c := range r.places {
		read := Read{Topic: c}
		if err := r.readers[byPost].read(ctx, &read); err != nil {
			return nil, err
		}
		held.Places[c] = read.Cells
	}
	return held, nil
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
			r.rec.read(Read{
				Client: name, Topic: c, Direct: true, Start: start, End: end,
				Stamp: freshet.Revision{Epoch: held.Epoch}, Content: contentOf(c, held.Places),
			})
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

// close ends a window: all its writes are known, and it is judged. What it is judged by
// is what Postgres holds, which says what was lost: as long as nobody knows that, the
// window goes on.
func (r *run) close(ctx context.Context, held *Held) {
	r.phase("judging")
	if r.truth != nil {
		r.locateOnce(context.WithoutCancel(ctx))
		r.settle(context.WithoutCancel(ctx))
		if ctx.Err() != nil {
			held, _ = r.holds(context.WithoutCancel(ctx)) // it was stopped before it was asked
			held = r.current(held)
		}
		if r.unjudged = held == nil; r.unjudged {
			return
		}
	}
	r.countReplica(ctx)
	h := r.rec.cut(r.holding(held))
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

// holding is what a history says of it. A new epoch has the writers give up what is
// otherwise than they left it.
func (r *run) holding(held *Held) *Holding {
	if r.truth == nil {
		return nil // it is what the server says itself
	}
	if r.epoch != held.Epoch {
		for _, w := range r.every {
			w.forfeit(held)
		}
	}
	r.epoch = held.Epoch
	return &Holding{At: r.rec.now(), Epoch: held.Epoch, Cells: held.cells()}
}
