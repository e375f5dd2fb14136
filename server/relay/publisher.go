package relay

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store/wal"
)

// State is what a holder answers from: a *hub.Hub.
type State interface {
	Changes(since uint64, limit int) hub.Changes
}

const (
	frameBytes    = 128 << 10 // from which on a frame takes no further commit
	maxQueueBytes = 16 << 20  // of frames that NATS has not taken yet; more is left out, and shows as a gap
	frameOverhead = 1 << 10   // of a message, besides its commits, patterns aside

	// An answer of more begins later: what lies before isn't known to who has asked.
	maxAnswerBytes = 8 << 20
	maxParts       = 4096
)

// Publisher is a wal.Sink that passes everything on to another one, and while it is
// switched on makes frames of it. Make one with NewPublisher.
//
// Invariants:
//   - frames that are taken one after the other leave nothing out: each begins where the
//     one before it ends, or there is a gap between that shows (a frame's beginning is
//     never below the end of what it leaves out);
//   - a frame's quarantine was in force for all of it.
type Publisher struct {
	inner wal.Sink
	wake  chan struct{} // capacity 1: there is something to send

	mu       sync.Mutex // guards what follows
	on       bool
	limit    int // bytes of a message
	epoch    freshet.Epoch
	position uint64 // all up to here was told
	serving  bool
	held     []freshet.Pattern
	xid      *uint32 // of the commit that is told next
	queue    []*relayv1.Frame
	open     bool // the last of the queue may take more
	size     int  // of the last of the queue,
	bytes    int  // and of all
	beat     bool // a frame that says where we are is due

	most int // bytes of the queue

	left      uint64 // commits left out, for their size or because NATS takes nothing
	overflows uint64 // times that the queue was dropped for its size
}

// NewPublisher returns a publisher before a sink. It is switched off.
func NewPublisher(inner wal.Sink) *Publisher {
	return &Publisher{inner: inner, wake: make(chan struct{}, 1), most: maxQueueBytes}
}

// BeforeTold returns what wal.Config.BeforeTold is to be, if it would else be next, which
// may be nil: it notes the id for the frame.
func (p *Publisher) BeforeTold(next func(uint32, freshet.Commit)) func(uint32, freshet.Commit) {
	return func(xid uint32, c freshet.Commit) {
		p.mu.Lock()
		p.xid = &xid
		p.mu.Unlock()
		if next != nil {
			next(xid, c)
		}
	}
}

// Begin implements wal.Sink.
func (p *Publisher) Begin(horizon freshet.Revision) {
	p.mu.Lock()
	if horizon.Epoch != p.epoch {
		p.clear()
	}
	p.epoch, p.position, p.serving, p.open = horizon.Epoch, horizon.Position, false, false
	p.mu.Unlock()
	p.inner.Begin(horizon)
}

// Publish implements wal.Sink.
func (p *Publisher) Publish(c freshet.Commit) {
	p.mu.Lock()
	xid := p.xid
	p.xid = nil
	if c.Revision.Position > p.position {
		p.add(c, xid)
	}
	p.mu.Unlock()
	p.inner.Publish(c)
}

// Advance implements wal.Sink.
func (p *Publisher) Advance(rev freshet.Revision) {
	p.mu.Lock()
	if rev.Position > p.position && p.on {
		p.frame(rev.Position, 0)
	}
	p.position = max(p.position, rev.Position)
	p.mu.Unlock()
	p.inner.Advance(rev)
}

// Serve implements wal.Sink.
func (p *Publisher) Serve(rev freshet.Revision) {
	p.mu.Lock()
	p.serving, p.open = true, false
	p.position = max(p.position, rev.Position)
	p.mu.Unlock()
	p.inner.Serve(rev)
}

// Quarantine implements wal.Sink.
func (p *Publisher) Quarantine(held []freshet.Pattern) {
	p.mu.Lock()
	p.held, p.open = slices.Clone(held), false
	p.beat = p.on
	p.mu.Unlock()
	p.inner.Quarantine(held)
	p.kick()
}

// Current implements wal.Sink.
func (p *Publisher) Current(asOf time.Time) { p.inner.Current(asOf) }

func (p *Publisher) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// add puts a commit into a frame. The caller holds mu.
func (p *Publisher) add(c freshet.Commit, xid *uint32) {
	defer func() { p.position = c.Revision.Position }()
	if !p.on {
		return
	}
	commit := &relayv1.Commit{Position: c.Revision.Position, Topics: c.Topics, Floors: textsOf(c.Floors), Xid: xid}
	size := proto.Size(commit) + 8
	if commit.Causes = causesOf(c, xid); commit.Causes != nil {
		if with := proto.Size(commit) + 8; with <= p.limit-frameOverhead {
			size = with
		} else {
			commit.Causes = nil
		}
	}
	if size > p.limit-frameOverhead {
		// Who follows finds a gap, and asks: an answer has parts.
		p.open, p.beat = false, true
		p.left++
		p.kick()
		return
	}
	fr := p.frame(c.Revision.Position, size)
	if fr == nil {
		p.left++
		return
	}
	fr.Commits = append(fr.Commits, commit)
}

// frame returns the frame that a stretch to position is part of, with room for so many
// bytes; nil: there is no room for any, so it will show as a gap. The caller holds mu.
func (p *Publisher) frame(position uint64, size int) *relayv1.Frame {
	if p.bytes+size > p.most {
		for _, fr := range p.queue {
			p.left += uint64(len(fr.GetCommits()))
		}
		p.clear()
		p.overflows++
		p.beat = true
		return nil
	}
	var fr *relayv1.Frame
	if n := len(p.queue); p.open && n > 0 && p.size+size <= min(frameBytes, p.limit-frameOverhead) {
		fr = p.queue[n-1]
	} else {
		fr = p.here()
		p.queue = append(p.queue, fr)
		p.open, p.size = true, 0
	}
	fr.Position = position
	p.size += size
	p.bytes += size
	p.kick()
	return fr
}

// here returns a frame that says where we are. The caller holds mu.
func (p *Publisher) here() *relayv1.Frame {
	return &relayv1.Frame{
		Epoch: uint32(p.epoch), Previous: p.position, Position: p.position, Serving: p.serving, Quarantine: textsOf(p.held),
	}
}

func (p *Publisher) clear() { p.queue, p.open, p.size, p.bytes = nil, false, 0, 0 }

// turn switches it on or off. limit bounds a message.
func (p *Publisher) turn(on bool, limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on != p.on {
		p.clear()
		p.beat = on
		p.kick()
	}
	p.on, p.limit = on, limit
}

// overflown returns how often the queue was dropped for its size.
func (p *Publisher) overflown() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overflows
}

// take returns the frames that are to be sent; with beat, one at least, if there is
// anything to say.
func (p *Publisher) take(beat bool) []*relayv1.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	frames := p.queue
	p.queue = nil
	p.clear()
	if p.on && p.epoch != 0 && (p.beat || beat && len(frames) == 0) {
		frames = append(frames, p.here())
	}
	p.beat = false
	return frames
}

// answer returns the parts of an answer to what has changed since a position; nil: there
// is nothing to say. number gives the answer's sequence: it is called while nothing can
// come in between.
func (p *Publisher) answer(state State, req *relayv1.StateRequest, number func() uint64) (parts []*relayv1.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on || uint32(p.epoch) != req.GetEpoch() {
		return nil
	}
	// Under the lock, so that what is in quarantine is what was when the frontier was
	// there.
	changes := state.Changes(req.GetSince(), maxAnswerBytes)
	if changes.Frontier.Epoch != p.epoch {
		return nil
	}
	head := &relayv1.Frame{
		Epoch: req.GetEpoch(), Sequence: number(), Serving: true, Quarantine: textsOf(p.held),
		Previous: changes.Since, Position: changes.Frontier.Position,
	}
	limit := p.limit - frameOverhead - proto.Size(head)
	part := proto.CloneOf(head)
	room := limit
	flush := func() {
		parts = append(parts, &relayv1.State{Frame: part, Part: uint32(len(parts))}) //nolint:gosec // bounded by maxAnswerBytes
		part, room = proto.CloneOf(head), limit
	}
	for _, c := range changes.Commits {
		out := &relayv1.Commit{Position: c.Revision.Position}
		for i, text := range slices.Concat(c.Topics, textsOf(c.Floors)) {
			if room -= len(text) + commitOverhead; room < 0 {
				flush()
				room -= len(text) + commitOverhead
				out = &relayv1.Commit{Position: c.Revision.Position}
			}
			if len(out.GetTopics())+len(out.GetFloors()) == 0 {
				part.Commits = append(part.Commits, out)
			}
			if i < len(c.Topics) {
				out.Topics = append(out.Topics, text)
			} else {
				out.Floors = append(out.Floors, text)
			}
		}
	}
	flush()
	for _, st := range parts {
		st.Parts = uint32(len(parts)) //nolint:gosec // as above
	}
	return parts
}

// commitOverhead is what a topic and its commit take in a message, at most, besides the
// topic's text.
const commitOverhead = 24
