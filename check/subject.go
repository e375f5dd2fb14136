package check

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/rule"
)

// subject is a simulated client: one stream, and a query for each topic that it
// follows, which fetches as the client rule says. It naps from time to time, so that
// it has to resume, and reloads strongly without a reason. One goroutine owns it;
// what mu guards is for others too.
type subject struct {
	name     string
	by       transport
	streams  *streams
	reader   *reader
	names    *directory
	rec      *recorder
	rng      *rand.Rand
	throttle time.Duration // negative: the server's
	items    int           // rows that it follows beside the rest; others after each nap
	callers  []string      // who may use it; nil: always the same, who is nobody of a place
	caller   string        // of them, now
	calm     *atomic.Bool  // neither naps nor reloads: writes have stopped
	pace     int           // one when there are few clients: naps and reloads are rarer when there are many

	// Faults: until the channel is closed it doesn't read its stream, or does
	// nothing at all.
	deaf, frozen atomic.Pointer[chan struct{}]

	inbox   chan func(context.Context)
	flights sync.WaitGroup
	screens map[string]*screen // by topic
	last    freshet.Revision   // the last id
	hush    func()             // ends the stream and waits for its end
	napping bool

	mu        sync.Mutex         // guards all below
	shown     map[string]Content // by topic; what it follows no more isn't there
	connected bool
	since     time.Duration // when its stream was ready, or said reset
	heartbeat time.Duration
	changed   chan struct{} // closed at the next change
}

// screen is one query.
type screen struct {
	topic   string // that it is of: the request's
	rule    *rule.Follower
	opened  []string // what the last stream was opened with for it
	follows []string // what a stream that was ready was opened with: told until now
	pause   int      // the pause that the timer is for
	young   bool     // the stream hasn't been ready since it was added: nothing is known of the time before
	shows   bool     // an answer
}

func newSubject(name string, topics []string, rng *rand.Rand) *subject {
	s := &subject{
		name: name, rng: rng, pace: 1,
		inbox: make(chan func(context.Context)), screens: map[string]*screen{},
		shown: map[string]Content{}, changed: make(chan struct{}),
	}
	for _, topic := range topics {
		s.add(topic)
	}
	return s
}

func (s *subject) add(topic string) {
	s.screens[topic] = &screen{topic: topic, rule: rule.NewFollower(followed(topic)), young: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown[topic] = Content{}
}

// lookElsewhere follows other rows than before, or the same ones, as somebody does who
// comes back to a page: what was shown of them is gone.
func (s *subject) lookElsewhere() {
	for topic := range s.screens {
		if _, _, isRow := itemOf(topic); isRow {
			s.drop(topic)
		}
	}
	for _, topic := range s.names.pick(s.rng, s.items) {
		s.add(topic)
	}
}

// drop follows a topic no more; what was shown of it is gone.
func (s *subject) drop(topic string) {
	delete(s.screens, topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shown, topic)
}

// subscribe is what the next stream has to follow: the topics of all answers. With what
// a query has followed the stream goes on from the last id, and it begins where the
// answer is with what is new to the query, be it that others have followed it: they
// were told, the query wasn't. Where both want a topic it is the earlier of the two: an
// answer may have come before what the stream will tell the others.
func (s *subject) subscribe() (topics []string, sinceBy map[string]freshet.Revision) {
	begin := map[string]freshet.Revision{}
	for _, sc := range s.screens {
		of, since := sc.rule.Open()
		for _, topic := range of {
			at := s.last
			switch {
			case slices.Contains(sc.follows, topic) || sc.young || s.last.IsZero():
			case since.Position == 0:
				sc.young = true // nothing is known of the answer's age
			default:
				at = since
			}
			if known, ok := begin[topic]; !ok || at.Less(known) {
				begin[topic] = at
			}
		}
		sc.opened = of
		// From now on nobody tells of the others.
		sc.follows = slices.DeleteFunc(slices.Clone(sc.follows), func(topic string) bool { return !slices.Contains(of, topic) })
	}
	topics = slices.Sorted(maps.Keys(begin))
	maps.DeleteFunc(begin, func(_ string, at freshet.Revision) bool { return at == s.last })
	return topics, begin
}

// between is a random time.
func (s *subject) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

func (s *subject) untilNap() time.Duration {
	return s.between(500*time.Millisecond, time.Duration(4*s.pace)*time.Second)
}

func (s *subject) untilReload() time.Duration {
	return s.between(100*time.Millisecond, time.Duration(4*s.pace)*time.Second)
}

// obey does nothing as long as a fault says so.
func obey(ctx context.Context, fault *atomic.Pointer[chan struct{}]) {
	if until := fault.Load(); until != nil {
		select {
		case <-*until:
		case <-ctx.Done():
		}
	}
}

// run lives until ctx ends.
func (s *subject) run(ctx context.Context) {
	defer s.flights.Wait()
	s.another()
	s.lookElsewhere()
	s.listen(ctx)
	nap := time.NewTimer(s.untilNap())
	defer nap.Stop()
	reload := time.NewTimer(s.untilReload())
	defer reload.Stop()
	for {
		obey(ctx, &s.frozen)
		select {
		case <-ctx.Done():
			s.hush()
			return
		case f := <-s.inbox:
			f(ctx)
		case <-reload.C:
			reload.Reset(s.untilReload())
			if s.calm.Load() {
				continue // what it wasn't told it must not find out by chance
			}
			sc := s.screens[slices.Sorted(maps.Keys(s.screens))[s.rng.IntN(len(s.screens))]]
			s.do(ctx, sc, sc.rule.On(rule.Input{Kind: rule.OnRefresh}))
		case <-nap.C:
			nap.Reset(s.untilNap())
			if s.calm.Load() || s.napping {
				continue
			}
			s.napping = true
			s.hush()
			s.later(ctx, s.between(time.Millisecond, 200*time.Millisecond), func(ctx context.Context) {
				s.napping = false
				s.another()
				s.lookElsewhere()
				s.listen(ctx)
			})
		}
	}
}

// later runs f in the subject's goroutine.
func (s *subject) later(ctx context.Context, d time.Duration, f func(context.Context)) {
	s.flights.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.tell(ctx, f)
		case <-ctx.Done():
		}
	})
}

func (s *subject) tell(ctx context.Context, f func(context.Context)) bool {
	select {
	case s.inbox <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen opens the stream, with a since if there has been one before.
func (s *subject) listen(ctx context.Context) {
	topics, sinceBy := s.subscribe()
	for _, sc := range s.screens {
		if sc.young {
			s.do(ctx, sc, rule.Step{Pause: &rule.Pause{Least: time.Second}}) // for the stream
		}
	}
	s.rec.frame(Frame{Client: s.name, At: s.rec.now(), Kind: Subscribe, Since: s.last, SinceBy: sinceBy, Topics: topics})
	s.rec.did(Exercise("stream by " + s.by.String()))
	sub := subscription{topics: s.names.fullAll(topics), since: s.last, sinceBy: s.names.fullKeys(sinceBy), throttle: s.throttle}
	ctx, cancel := context.WithCancel(asCaller(ctx, s.caller))
	done := make(chan struct{})
	s.hush = func() {
		cancel()
		<-done
		s.setConnected(false, 0)
	}
	go func() {
		defer close(done)
		err := s.streams.follow(ctx, s.by, sub, func(e client.Event) error {
			obey(ctx, &s.deaf)
			if told, ok := e.(client.Invalidate); ok {
				told.Topics = s.names.shortAll(told.Topics)
				e = told
			}
			s.record(e)
			if !s.tell(ctx, func(outer context.Context) { s.hear(outer, e) }) {
				return ctx.Err()
			}
			return nil
		})
		if ctx.Err() == nil {
			s.rec.failed("stream refused", err)
		}
	}()
}

// record notes an event at the moment it came.
func (s *subject) record(e client.Event) {
	f, ok := frameOf(e)
	if !ok {
		return
	}
	f.Client, f.At = s.name, s.rec.now()
	if cut, ok := e.(client.Disconnected); ok {
		s.rec.failed("stream", cut.Err)
	}
	s.rec.frame(f)
}

// hear gives an event to the queries.
func (s *subject) hear(ctx context.Context, e client.Event) {
	var in rule.Input
	switch e := e.(type) {
	case client.Invalidate:
		s.last = s.last.Max(e.Revision)
		for _, sc := range s.screens {
			s.do(ctx, sc, sc.rule.Notice(e.Topics, e.Revision, e.Spread))
		}
		return
	case client.Ready:
		s.last = s.last.Max(e.Revision)
		for _, sc := range s.screens {
			in := rule.Input{Kind: rule.OnReady, Revision: e.Revision, Resumed: !sc.young}
			if sc.young {
				in.Revision = s.last // rule 3: a node that is behind begins below what another one has told
			}
			sc.young, sc.follows = false, sc.opened
			s.do(ctx, sc, sc.rule.On(in))
		}
		s.setConnected(true, e.Heartbeat)
		return
	case client.Reset:
		s.mu.Lock()
		s.since = s.rec.now()
		s.mu.Unlock()
		s.last = e.Revision
		in = rule.Input{Kind: rule.OnReset, Revision: e.Revision}
	case client.Frontier:
		s.last = s.last.Max(e.Revision)
		in = rule.Input{Kind: rule.OnFrontier, Revision: e.Revision}
	case client.Disconnected:
		s.setConnected(false, 0)
		return
	default:
		return
	}
	for _, sc := range s.screens {
		s.do(ctx, sc, sc.rule.On(in))
	}
}

// do does what a rule says.
func (s *subject) do(ctx context.Context, sc *screen, step rule.Step) {
	if p := step.Pause; p != nil {
		sc.pause++
		this := sc.pause
		s.later(ctx, p.Least+time.Duration(s.rng.Int64N(int64(p.Spread)+1)), func(ctx context.Context) {
			if sc.pause == this {
				s.do(ctx, sc, sc.rule.On(rule.Input{Kind: rule.OnTimer}))
			}
		})
	}
	if f, caller := step.Fetch, s.caller; f != nil {
		s.flights.Go(func() {
			read := Read{Client: s.name, Topic: sc.topic, AtLeast: f.AtLeast, Start: s.rec.now()}
			err := s.reader.read(asCaller(ctx, caller), &read)
			s.tell(ctx, func(ctx context.Context) { s.land(ctx, sc, f.Flight, read, err) })
		})
	}
}

// land takes the end of a flight. Only a screen that shows something has an answer
// replaced (G4).
func (s *subject) land(ctx context.Context, sc *screen, flight int, read Read, err error) {
	read.End = s.rec.now()         // the order in which answers were kept is that of their ends
	if s.screens[sc.topic] != sc { // it looks elsewhere now
		s.rec.read(read)
		return
	}
	in := rule.Input{Kind: rule.OnAnswer, Flight: flight, Revision: read.Stamp}
	if err != nil {
		s.rec.failed("read", err)
		in = failure(err)
		in.Flight = flight
	}
	var step rule.Step
	reopen := false
	if in.Kind == rule.OnAnswer {
		step, reopen = sc.rule.Answer(in, s.names.of.answerTopics(&read))
	} else {
		step = sc.rule.On(in)
	}
	read.Kept, read.First = step.Keep, step.Keep && !sc.shows
	s.rec.read(read)
	if step.Keep {
		sc.shows = true
		s.mu.Lock()
		s.shown[sc.topic] = read.Content
		s.mu.Unlock()
		s.news()
	}
	if reopen && !s.napping { // else when it wakes
		s.rec.did(otherTopics)
		s.hush()
		s.listen(ctx)
	}
	s.do(ctx, sc, step)
}

func (s *subject) setConnected(connected bool, heartbeat time.Duration) {
	s.mu.Lock()
	if s.connected = connected; connected {
		s.since = s.rec.now()
	}
	if heartbeat > 0 {
		s.heartbeat = heartbeat
	}
	s.mu.Unlock()
	s.news()
}

func (s *subject) news() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until the subject shows the truth, or ctx ends, and returns what
// it shows; nothing if it isn't connected.
func (s *subject) await(ctx context.Context, truth map[string][]Cell, at func() time.Duration) []View {
	for {
		var views []View
		same := true
		s.mu.Lock()
		connected, changed := s.connected, s.changed
		for topic, shown := range s.shown {
			v := View{Client: s.name, At: at(), Topic: topic, Shown: shown, Truth: contentOf(topic, truth)}
			same = same && (v.Shown.Partial || v.Shown.equal(v.Truth))
			views = append(views, v)
		}
		s.mu.Unlock()
		if same && connected {
			return views
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if !connected {
				return nil
			}
			return views
		}
	}
}
