package relay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/relay"
)

// F38, R1, R2: holders at different places of one history tell it; messages are lost,
// doubled, late and in any order; holders restart, replay, are paused and go on; the
// database begins another epoch. Whatever comes, a follower's frontier has passed no
// change that it has not told (G2), never goes back (G4), and what a source's quarantine
// may hide is held or told anew (Q1 to Q3).
func TestFollower_model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        w.check,
			"commit":  w.commit,
			"commits": w.commit,
			"epoch":   w.beginEpoch,
			"tell":    w.tell,
			"telling": w.tell,
			"stuck":   w.stuck,
			"beat":    w.beat,
			"restart": w.restart,
			"session": w.reconnect,
			"turn":    w.turn,
			"hold":    w.hold,
			"blind":   w.blind,
			"deliver": w.deliver,
			"arrive":  w.deliver,
			"flood":   w.flood,
			"direct":  w.direct,
			"lose":    w.lose,
			"ask":     w.ask,
			"wait":    func(*rapid.T) { w.now = w.now.Add(300 * time.Millisecond) },
		})
		w.settle(t)
	})
}

var modelTopics = []string{"a/1", "a/2", "b/1", "b/2", "c", "large/000000000000000000000000000000"}

// change is a commit of the database.
type change struct {
	position uint64
	topics   []string
	floors   []freshet.Pattern
	held     bool // a/** is in quarantine from here on, until it is false again
	untold   []string
}

// world is a database, holders that capture it, a network, and one follower.
type world struct {
	now      time.Time
	epoch    freshet.Epoch
	changes  []change // of this epoch
	holders  []*holder
	network  []message
	target   *modelTarget
	follower *relay.Follower
	sub      *hub.Subscription
	requests []*relayv1.StateRequest
	told     map[string]uint64  // the frontier at which each topic was told last
	unserved map[[2]uint64]bool // frames of holders that did not serve, by holder and sequence
	t        *rapid.T
	last     freshet.Revision
}

type message struct {
	data  []byte
	state bool
}

// holder is a node that captures: a hub, a publisher before it, and how far it has come.
type holder struct {
	id        uint64
	epoch     freshet.Epoch
	at        int // changes told
	hub       *hub.Hub
	publisher *relay.Publisher
	on        bool
	sequence  uint64
	held      bool // a/**, as all holders
	blind     bool // its own stream doesn't show b/1, so it holds b/**; none of the others does
	seeing    bool // with the next change it isn't any more
}

// quarantine is what h holds.
func (h *holder) quarantine() {
	var held []freshet.Pattern
	if h.held {
		held = append(held, "a/**")
	}
	if h.blind {
		held = append(held, "b/**")
	}
	h.publisher.Quarantine(held)
}

func newWorld(t *rapid.T) *world {
	w := &world{now: time.Unix(1_000_000, 0), epoch: 7, told: map[string]uint64{}, unserved: map[[2]uint64]bool{}, t: t}
	w.target = newModelTarget(w)
	w.target.session(0)
	w.follower = relay.NewFollower(w.target)
	for i := range 2 {
		w.holders = append(w.holders, &holder{id: uint64(i + 1)})
		w.begin(t, w.holders[i], 0)
		w.holders[i].turn(i == 0)
	}
	return w
}

func (h *holder) turn(on bool) {
	h.on = on
	h.publisher.Turn(on, 1400) // so that some commits are too large
}

// begin starts a holder anew, which has replayed the WAL from a place on.
func (w *world) begin(t *rapid.T, h *holder, from int) {
	h.blind, h.seeing = false, false
	h.hub, h.epoch, h.at, h.held = hub.New(hub.Config{MaxTopics: rapid.SampledFrom([]int{2, 100}).Draw(t, "remembers")}), w.epoch, from, false
	h.publisher = relay.NewPublisher(h.hub)
	h.publisher.Turn(h.on, 1400)
	h.publisher.Most(rapid.SampledFrom([]int{60, 3000, 100_000}).Draw(t, "queue"))
	at := freshet.Revision{Epoch: w.epoch, Position: 10}
	if from > 0 {
		at.Position = w.changes[from-1].position
		h.held = w.changes[from-1].held
		h.quarantine()
	}
	h.publisher.Begin(at)
	for range rapid.IntRange(0, len(w.changes)-from).Draw(t, "replays") {
		w.next(h)
	}
	h.publisher.Serve(freshet.Revision{Epoch: w.epoch, Position: max(at.Position, h.position(w))})
}

func (h *holder) position(w *world) uint64 {
	if h.at == 0 || h.epoch != w.epoch {
		return 0
	}
	return w.changes[h.at-1].position
}

// next has a holder tell the next change.
func (w *world) next(h *holder) {
	c := w.changes[h.at]
	h.at++
	if c.held && !h.held {
		h.held = true
		h.quarantine()
	}
	rev := freshet.Revision{Epoch: h.epoch, Position: c.position}
	floors := c.floors
	if h.held && !c.held {
		floors = append(slices.Clone(floors), "a/**") // Q3
	}
	topics := c.topics
	switch {
	case h.seeing:
		floors = append(slices.Clone(floors), "b/**")
	case h.blind:
		topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return topic == "b/1" })
	}
	if len(topics)+len(floors) > 0 {
		h.publisher.Publish(freshet.Commit{Revision: rev, Topics: topics, Floors: floors})
	} else {
		h.publisher.Advance(rev)
	}
	if h.held && !c.held || h.seeing {
		h.held = c.held
		h.blind, h.seeing = h.blind && !h.seeing, false
		h.quarantine()
	}
}

// blind has a holder lose sight of b/1 for itself, or find its sight again.
func (w *world) blind(t *rapid.T) {
	h := w.pick(t)
	switch {
	case !h.blind:
		h.blind = true
		h.quarantine()
	default:
		h.seeing = true
	}
}

func (w *world) commit(t *rapid.T) {
	c := change{position: 10}
	if n := len(w.changes); n > 0 {
		c.position, c.held = w.changes[n-1].position, w.changes[n-1].held
	}
	c.position += uint64(rapid.IntRange(1, 5).Draw(t, "bytes"))
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0: // nothing of the contract
	case 1:
		c.floors = []freshet.Pattern{rapid.SampledFrom([]freshet.Pattern{"b/**", "a/*"}).Draw(t, "floor")}
	case 2:
		for i := range 40 {
			c.topics = append(c.topics, fmt.Sprintf("large/%030d", i))
		}
		c.topics = append(c.topics, "c")
		if rapid.Bool().Draw(t, "reversed") {
			slices.Reverse(c.topics)
		}
	default:
		c.topics = []string{rapid.SampledFrom(modelTopics).Draw(t, "topic")}
	}
	if c.held && rapid.Bool().Draw(t, "hidden") {
		// Decoding doesn't show it.
		c.untold = []string{"a/1"}
	}
	w.changes = append(w.changes, c)
}

// hold begins or ends the quarantine of a/**, with the next commit.
func (w *world) hold(*rapid.T) {
	c := change{position: 11}
	if n := len(w.changes); n > 0 {
		c.position, c.held = w.changes[n-1].position+1, w.changes[n-1].held
	}
	c.held = !c.held
	w.changes = append(w.changes, c)
}

func (w *world) beginEpoch(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "crash") > 0 {
		t.Skip("rare")
	}
	w.epoch++
	w.changes = nil
	w.target.session(0)
	w.told = map[string]uint64{}
}

// reconnect is of the follower's own connection to the database.
func (w *world) reconnect(*rapid.T) { w.target.session(w.insert()) }

// insert is where the WAL of this epoch ends.
func (w *world) insert() uint64 {
	if n := len(w.changes); n > 0 {
		return w.changes[n-1].position
	}
	return 0
}

func (w *world) pick(t *rapid.T) *holder { return rapid.SampledFrom(w.holders).Draw(t, "holder") }

// tell has a holder tell some changes.
func (w *world) tell(t *rapid.T) {
	h := w.pick(t)
	defer w.send(h, false)
	w.pass(t, h)
}

// stuck has a holder tell some changes while NATS takes nothing.
func (w *world) stuck(t *rapid.T) { w.pass(t, w.pick(t)) }

func (w *world) pass(t *rapid.T, h *holder) {
	if h.epoch == w.epoch {
		for n := rapid.IntRange(1, 3).Draw(t, "n"); n > 0 && h.at < len(w.changes); n-- {
			w.next(h)
		}
	}
}

func (w *world) beat(t *rapid.T) { w.send(w.pick(t), true) }

func (w *world) send(h *holder, beat bool) {
	for _, fr := range h.publisher.Take(beat) {
		h.sequence++
		fr.Holder, fr.Incarnation, fr.Sequence, fr.Rank = h.id, uint64(h.epoch), h.sequence, relayv1.Rank_RANK_SEATED
		w.unserved[[2]uint64{h.id, h.sequence}] = !fr.GetServing()
		data, _ := proto.Marshal(fr)
		w.network = append(w.network, message{data: data})
	}
}

// restart is of a holder's process: it begins where the window does, in today's epoch.
func (w *world) restart(t *rapid.T) {
	h := w.pick(t)
	h.id += 10
	h.sequence = 0
	w.begin(t, h, rapid.IntRange(0, len(w.changes)).Draw(t, "window"))
}

// turn switches a holder on or off: it has got the seat, or lost it.
func (w *world) turn(t *rapid.T) {
	h := w.pick(t)
	h.turn(!h.on)
}

func (w *world) take(t *rapid.T) (m message, ok bool) {
	if len(w.network) == 0 {
		return m, false
	}
	i := rapid.IntRange(0, len(w.network)-1).Draw(t, "message")
	if rapid.Bool().Draw(t, "first") {
		i = 0
	}
	m = w.network[i]
	if !rapid.Bool().Draw(t, "doubled") {
		w.network = slices.Delete(w.network, i, i+1)
	}
	return m, true
}

func (w *world) receive(m message) {
	if m.state {
		w.follower.State(m.data)
	} else {
		w.follower.Frame(w.now, m.data)
	}
}

func (w *world) deliver(t *rapid.T) {
	if m, ok := w.take(t); ok {
		w.receive(m)
	}
}

// direct gives the target a frame whatever the follower would say: it has to refuse what
// doesn't fit by itself.
func (w *world) direct(t *rapid.T) {
	if m, ok := w.take(t); ok && !m.state {
		w.follower.Apply(m.data)
	}
}

func (w *world) flood(*rapid.T) {
	for _, m := range w.network {
		w.receive(m)
	}
	w.network = nil
}

func (w *world) lose(t *rapid.T) { _, _ = w.take(t) }

// ask has holders answer what is due, or one that was due before.
func (w *world) ask(t *rapid.T) {
	if req := w.follower.Due(w.now); req != nil {
		w.requests = append(w.requests, req)
	}
	if len(w.requests) == 0 {
		return
	}
	req := rapid.SampledFrom(w.requests).Draw(t, "request")
	w.answer(w.pick(t), req)
}

func (w *world) answer(h *holder, req *relayv1.StateRequest) {
	if req.GetIncarnation() != uint64(h.epoch) {
		return
	}
	for _, st := range h.publisher.Answer(h.hub, req, func() uint64 { h.sequence++; return h.sequence }) {
		st.Frame.Holder, st.Frame.Incarnation = h.id, uint64(h.epoch)
		data, _ := proto.Marshal(st)
		w.network = append(w.network, message{data, true})
	}
}

// settle: when messages come again, everything is told.
func (w *world) settle(t *rapid.T) {
	w.network, w.requests = nil, nil
	h := w.holders[0]
	h.id += 10
	w.begin(t, h, 0)
	h.turn(true)
	for range 20 {
		w.now = w.now.Add(2 * time.Second)
		for h.at < len(w.changes) {
			w.next(h)
		}
		w.send(h, true)
		w.flood(t)
		if req := w.follower.Due(w.now); req != nil {
			w.answer(h, req)
		}
		w.flood(t)
		w.check(t)
	}
	at, _, begun := w.target.Place()
	require.True(t, begun)
	require.GreaterOrEqual(t, at.Position, h.position(w), "the follower does not catch up")
	require.False(t, w.target.hub.Frontier().IsZero(), "the follower doesn't serve")
}

// check holds the follower's hub against the database.
func (w *world) check(t *rapid.T) {
	frontier := w.target.hub.Frontier()
	if frontier.IsZero() {
		return
	}
	require.Equal(t, w.epoch, frontier.Epoch)
	require.False(t, frontier.Less(w.last), "the frontier went back from %s to %s", w.last, frontier)
	w.last = frontier
	if w.sub == nil {
		sub, err := w.target.hub.Subscribe(slices.Clone(modelTopics), hub.Since{})
		require.NoError(t, err)
		w.sub = sub
		for _, topic := range modelTopics {
			w.told[topic] = frontier.Position
		}
	}
	notice := w.sub.TakeAll()
	if notice.Reset {
		notice.Topics = modelTopics
	}
	for _, topic := range notice.Topics {
		w.told[topic] = max(frontier.Position, notice.Revision.Position)
	}
	held := map[string]bool{}
	for _, topic := range modelTopics {
		held[topic] = w.target.hub.Quarantined([]string{topic})
	}
	for _, c := range w.changes {
		if c.position > frontier.Position {
			break
		}
		for _, topic := range modelTopics {
			hidden := slices.Contains(c.untold, topic)
			changed := hidden || slices.Contains(c.topics, topic) || slices.ContainsFunc(c.floors, func(p freshet.Pattern) bool { return p.Match(topic) })
			if !changed {
				continue
			}
			if (hidden || topic == "b/1") && held[topic] {
				continue // Q2: it is told with each frontier
			}
			require.GreaterOrEqual(t, w.target.hub.Floor([]string{topic}).Position, c.position, "%s changed at %d, the floor doesn't show it at frontier %d", topic, c.position, frontier.Position)
			require.GreaterOrEqual(t, w.told[topic], c.position, "%s changed at %d and was not told at frontier %d", topic, c.position, frontier.Position)
		}
	}
}
