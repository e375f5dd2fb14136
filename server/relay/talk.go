package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
)

// talk is what a relay says and hears. Its fields are run's goroutine's.
type talk struct {
	r     *Relay
	inbox string

	history      history
	frames       *nats.Subscription // of that history; nil: none
	requests     *nats.Subscription // to answer; nil: others do
	subscribeErr string             // the last one, told once
}

// history is what subjects are made of, so that databases that share NATS don't meet.
type history struct {
	epoch       freshet.Epoch
	incarnation uint64
}

func newTalk(r *Relay) *talk { return &talk{r: r, inbox: r.nc.NewInbox()} }

// subject names what is about a history. 2 is the form of messages: nodes of another
// version would not understand these.
func (t *talk) subject(h history, kind string) string {
	return fmt.Sprintf("%s.2.%s.%08x-%016x.%s", t.r.cfg.Subject, t.r.cfg.Scope, uint32(h.epoch), h.incarnation, kind)
}

// What waits to be looked at, at most; more is dropped, and shows as a gap.
const (
	pendingMessages = 65_536
	pendingBytes    = 64 << 20
)

func (t *talk) subscribe(subject string, handle nats.MsgHandler) (*nats.Subscription, error) {
	sub, err := t.r.nc.Subscribe(subject, handle)
	if err != nil {
		return nil, fmt.Errorf("relay: subscribe: %w", err)
	}
	return sub, sub.SetPendingLimits(pendingMessages, pendingBytes)
}

// begin subscribes to answers.
func (t *talk) begin() error {
	_, err := t.subscribe(t.inbox, t.answer)
	return err
}

// run subscribes to what is of interest now, and asks what is due, until ctx ends.
func (t *talk) run(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		if err := t.r.nc.LastError(); err != nil && t.r.gone.IsSet() {
			t.r.refused(ctx, err) // of a refusal behind the handshake the client tells nobody
		}
		t.follow(ctx)
		t.ask(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// follow subscribes to the frames of the history that the feed serves, and to requests
// if they are this node's to answer.
func (t *talk) follow(ctx context.Context) {
	epoch, incarnation := t.r.feed.History()
	if now := (history{epoch, incarnation}); epoch != 0 && now != t.history {
		for _, sub := range []**nats.Subscription{&t.frames, &t.requests} {
			t.drop(sub)
		}
		t.history = now
	}
	if t.history.epoch == 0 {
		return
	}
	var err error
	if t.frames == nil {
		t.frames, err = t.subscribe(t.subject(t.history, "frames"), t.frame)
	}
	answers := t.r.rank.Load() != int32(relayv1.Rank_RANK_UNSPECIFIED)
	switch {
	case answers && t.requests == nil && err == nil:
		t.requests, err = t.subscribe(t.subject(t.history, "state"), t.request)
	case !answers:
		t.drop(&t.requests)
	}
	if err != nil && err.Error() != t.subscribeErr {
		t.subscribeErr = err.Error()
		t.r.log.LogAttrs(ctx, slog.LevelWarn, "NATS", slog.Any("error", err))
	}
}

func (t *talk) drop(sub **nats.Subscription) {
	if *sub != nil {
		_ = (*sub).Unsubscribe() // nothing more is heard of it either way
		*sub = nil
	}
}

// ask sends a request, if one is due.
func (t *talk) ask(now time.Time) {
	r := t.r
	r.mu.Lock()
	req := r.follower.due(now)
	r.mu.Unlock()
	if req == nil {
		return
	}
	h := history{freshet.Epoch(req.GetEpoch()), req.GetIncarnation()}
	if t.publish(t.subject(h, "state"), t.inbox, h, kindRequest, req) == nil {
		r.counters.asked.Add(1)
	}
}

var errNoKey = errors.New("the epoch's secret is not known")

// publish seals a message and sends it. reply may be empty.
func (t *talk) publish(subject, reply string, h history, k kind, m proto.Message) error {
	data, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, proto.Size(m)+tagBytes), m)
	if err != nil {
		return err
	}
	if data = t.r.seals.seal(h, k, data); data == nil {
		return errNoKey
	}
	if reply == "" {
		err = t.r.nc.Publish(subject, data)
	} else {
		err = t.r.nc.PublishRequest(subject, reply, data)
	}
	if err != nil {
		return err
	}
	if k == kindFrame {
		t.r.counters.sentBytes.Add(uint64(len(data)))
	}
	return nil
}

// opened returns what a message says, if a node of the history that the feed serves has
// sealed it.
func (t *talk) opened(m *nats.Msg, k kind) (data []byte, ok bool) {
	r := t.r
	epoch, incarnation := r.feed.History()
	h := history{epoch, incarnation}
	if epoch == 0 || k != kindState && !strings.HasPrefix(m.Subject, t.subject(h, "")) {
		r.ignore() // of another history
		return nil, false
	}
	if data, ok = r.seals.open(h, k, m.Data); !ok {
		r.counters.forged.Add(1)
		r.log.Warn("a message on the fleet's subjects of NATS is of no node of this database, and dropped: who else may publish there?", "subject", m.Subject)
	}
	return data, ok
}

// frame takes a message of the subject for frames. NATS calls it for one at a time.
func (t *talk) frame(m *nats.Msg) {
	r := t.r
	r.counters.received.Add(1)
	data, ok := t.opened(m, kindFrame)
	if !ok {
		return
	}
	fr := new(relayv1.Frame)
	if err := understand(data, fr); err != nil {
		r.ignore()
		return
	}
	r.mu.Lock()
	if fr.GetHolder() != r.holder && fr.GetRank() != relayv1.Rank_RANK_UNSPECIFIED {
		r.heard, r.heardRank, r.heardID, r.unheard, r.failed = time.Now(), fr.GetRank(), fr.GetHolder(), false, nil
	}
	r.follower.frame(time.Now(), fr)
	r.mu.Unlock()
	t.ask(time.Now())
}

// answer takes a message that came to the inbox.
func (t *talk) answer(m *nats.Msg) {
	r := t.r
	if len(m.Data) == 0 { // NATS says that nobody answers such requests
		return
	}
	data, ok := t.opened(m, kindState)
	if !ok {
		return
	}
	st := new(relayv1.State)
	if err := understand(data, st); err != nil {
		r.ignore()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.follower.state(st)
}

func (r *Relay) ignore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.follower.ignored++
}

var errMalformed = errors.New("malformed")

// understand decodes a message, and refuses what a client of ours must not see.
func understand(data []byte, into proto.Message) error {
	if err := proto.Unmarshal(data, into); err != nil {
		return err
	}
	fr, _ := into.(*relayv1.Frame)
	if st, is := into.(*relayv1.State); is {
		fr = st.GetFrame()
	}
	if fr == nil {
		return nil
	}
	if fr.GetEpoch() == 0 || fr.GetHolder() == 0 || fr.GetPosition() < fr.GetPrevious() {
		return errMalformed
	}
	last := uint64(0)
	for _, c := range fr.GetCommits() {
		if c.GetPosition() < last || c.GetPosition() <= fr.GetPrevious() || c.GetPosition() > fr.GetPosition() {
			return errMalformed
		}
		last = c.GetPosition()
		for _, topic := range c.GetTopics() {
			if err := freshet.CheckTopic(topic); err != nil {
				return err
			}
		}
	}
	return nil
}

// request answers another node.
func (t *talk) request(m *nats.Msg) {
	r := t.r
	data, ok := t.opened(m, kindRequest)
	req := new(relayv1.StateRequest)
	if !ok || proto.Unmarshal(data, req) != nil || m.Reply == "" {
		return
	}
	epoch, incarnation := r.feed.History()
	if epoch == 0 || uint32(epoch) != req.GetEpoch() || incarnation != req.GetIncarnation() {
		return
	}
	parts := r.publisher.answer(r.cfg.State, req, func() uint64 { return r.sequence.Add(1) })
	for _, part := range parts {
		part.Frame.Holder, part.Frame.Incarnation = r.holder, incarnation
		part.Frame.Rank = relayv1.Rank(r.rank.Load())
		if t.publish(m.Reply, "", history{epoch, incarnation}, kindState, part) != nil {
			return // it will be asked for again
		}
	}
	if len(parts) > 0 {
		r.counters.answered.Add(1)
	}
}

// send sends frames as they come, until ctx ends.
func (t *talk) send(ctx context.Context) {
	r := t.r
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	overflows := uint64(0)
	for {
		beat := false
		select {
		case <-ctx.Done():
			return
		case <-r.publisher.wake:
		case <-ticker.C:
			beat = true
		}
		if now := r.publisher.overflown(); now > overflows {
			overflows = now
			r.log.LogAttrs(ctx, slog.LevelWarn, "NATS takes what the node tells others too slowly: what waited was dropped, and they ask for it",
				slog.Uint64("times", now))
		}
		if !r.feed.Capturing().Streams {
			continue // who is heard is taken for one that captures
		}
		rank := relayv1.Rank(r.rank.Load())
		epoch, incarnation := r.feed.History()
		for _, fr := range r.publisher.take(beat) {
			if uint32(epoch) != fr.GetEpoch() {
				continue // it has ended
			}
			fr.Incarnation, fr.Holder, fr.Rank = incarnation, r.holder, rank
			fr.Sequence = r.sequence.Add(1)
			fr.Received = r.feed.Received()
			h := history{epoch, incarnation}
			if t.publish(t.subject(h, "frames"), "", h, kindFrame, fr) != nil {
				r.counters.unsent.Add(1)
				continue
			}
			r.counters.sent.Add(1)
		}
	}
}
