package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
)

// probe is a client that subscribes again and again with what it says it has been
// told, each topic up to another revision, takes the catch-up, and goes away. It
// sees at once what a client that is seldom away would see seldom.
type probe struct {
	name    string
	by      transport
	streams *streams
	rec     *recorder
	names   *directory
	rng     *rand.Rand
	ours    []string // places
	own     []string // topics that SQL tells
	pace    int
	turn    int
}

// untilReady is how long a catch-up may take before the probe gives up.
const untilReady = 10 * time.Second

var errNotReady = errors.New("a stream wasn't ready within 10 s")

// run lives until ctx ends.
func (p *probe) run(ctx context.Context) {
	for {
		pass(ctx, time.Duration(p.pace)*time.Duration(10+p.rng.IntN(90))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			p.rec.failed("probe by "+p.by.String(), err)
			pass(ctx, time.Second)
		}
	}
}

func (p *probe) once(ctx context.Context) error {
	since := p.rec.since(p.rng)
	if since.IsZero() {
		return nil // nothing has been told yet
	}
	place := p.ours[p.rng.IntN(len(p.ours))]
	if p.names.of.kinds.has(OfCaller) && p.rng.IntN(2) == 0 {
		place = callerTopic(place)
	}
	topics := append(p.names.of.wide(), place)
	p.rng.Shuffle(len(topics), func(i, j int) { topics[i], topics[j] = topics[j], topics[i] })
	topics = slices.Compact(append(topics[:1+p.rng.IntN(len(topics))], p.names.pick(p.rng, 3)...))
	if len(p.own) > 0 {
		topics = append(topics, p.own[p.rng.IntN(len(p.own))])
	}
	subscribe := Frame{Client: p.name, At: p.rec.now(), Kind: Subscribe, Topics: topics, Since: since}
	var sinceBy map[string]freshet.Revision
	if p.by != getStream && p.rng.IntN(2) == 0 {
		subscribe.SinceBy, sinceBy = map[string]freshet.Revision{}, map[string]freshet.Revision{}
		for _, topic := range topics[:1+p.rng.IntN(len(topics))] {
			rev := p.rec.since(p.rng)
			subscribe.SinceBy[topic], sinceBy[p.names.full(topic)] = rev, rev
		}
	}
	sub := subscription{topics: p.names.fullAll(topics), since: since, sinceBy: sinceBy}
	switch p.turn++; {
	case p.turn%12 == 6 && since.Epoch > 1:
		subscribe.Since.Epoch--
		subscribe.SinceBy, sub.since, sub.sinceBy = nil, subscribe.Since, nil
		p.rec.did("since of another epoch")
	case p.turn%12 == 1 && p.by != getStream:
		sub = p.long(subscribe)
	}
	p.rec.frame(subscribe)
	p.rec.did(Exercise("catch-up by " + p.by.String()))
	return p.listen(ctx, subscribe, sub)
}

// long makes a list of topics so long that a notice of all of them takes several
// frames. The first ones were made up, and are subscribed since a revision from
// before all that a server remembers, so that they count as changed.
func (p *probe) long(subscribe Frame) subscription {
	const madeUp = 900
	sub := subscription{since: freshet.Revision{Epoch: subscribe.Since.Epoch, Position: 1}, sinceBy: map[string]freshet.Revision{}}
	for i := range madeUp {
		sub.topics = append(sub.topics, p.names.of.madeUp(p.ours[0], fmt.Sprintf("made-up-%s-%d", strings.Repeat("-", 30), i)))
	}
	for _, topic := range subscribe.Topics {
		full := p.names.full(topic)
		sub.topics, sub.sinceBy[full] = append(sub.topics, full), subscribe.since(topic)
	}
	return sub
}

// listen records what comes until the stream is ready.
func (p *probe) listen(ctx context.Context, subscribe Frame, sub subscription) error {
	ctx, cancel := context.WithTimeoutCause(ctx, untilReady, errNotReady)
	defer cancel()
	ready := false
	sink := func(f Frame) bool {
		f.Client, f.At, f.Topics = p.name, p.rec.now(), p.names.shortAll(f.Topics)
		f.Topics = slices.DeleteFunc(f.Topics, func(topic string) bool { return !slices.Contains(subscribe.Topics, topic) })
		p.rec.frame(f)
		ready = f.Kind == Ready
		return !ready
	}
	var err error
	if p.by == watchStream {
		err = p.streams.watchOnce(ctx, sub, func(e client.Event) error {
			if f, ok := frameOf(e); ok && !sink(f) {
				return errReady
			}
			return nil
		})
	} else {
		err = p.streams.catchUp(ctx, p.by, sub, p.rng.IntN(2) == 0, sink)
	}
	if ready {
		return nil
	}
	return causeOr(ctx, err)
}

var errReady = errors.New("ready")

// frameOf is what an event is in a history; ok: it is something.
func frameOf(e client.Event) (f Frame, ok bool) {
	switch e := e.(type) {
	case client.Connected:
		f.Kind = Connected
	case client.Disconnected:
		f.Kind = Disconnected
	case client.Invalidate:
		f.Kind, f.Revision, f.Topics = Invalidate, e.Revision, e.Topics
	case client.Ready:
		f.Kind, f.Revision = Ready, e.Revision
	case client.Reset:
		f.Kind, f.Revision = Reset, e.Revision
	case client.Frontier:
		f.Kind, f.Revision = Heartbeat, e.Revision
	default:
		return f, false
	}
	return f, true
}
