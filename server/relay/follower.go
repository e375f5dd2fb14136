package relay

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/store/wal"
)

// target is what a follower moves: *wal.Feed while it follows.
type target interface {
	Place() (at freshet.Revision, incarnation uint64, begun bool)
	Apply(wal.Told) bool
}

const (
	askAgain = 150 * time.Millisecond // after a request that nobody has answered; twice as long each time, to
	askMax   = time.Second
	// raiseAfter is for how long a follower asks for what it has missed before it begins
	// anew where a frame does.
	raiseAfter = time.Second

	// What may wait for what comes before it. More is dropped, and asked for.
	maxWaiting      = 4096
	maxWaitingBytes = 16 << 20
)

// follower decides what becomes of what a node receives. It is pure, but for the target,
// and not safe for concurrent use.
type follower struct {
	target target

	waiting []*relayv1.Frame // that begin above what is known, by their beginning
	bytes   int              // of these
	missing bool             // something is known to be
	able    time.Time        // since when there is a frame to begin anew with; zero: there is none
	asked   time.Time        // when it was last asked for
	pause   time.Duration    // until it is asked for again
	answers []*answer        // that have come in part

	gaps, raised, ignored uint64
}

// answer is one of which not all parts have come.
type answer struct {
	holder, sequence uint64
	parts            []*relayv1.State
	missing          int
}

// maxAnswers is how many holders may answer at a time.
const maxAnswers = 4

// frame takes a frame that has come.
func (f *follower) frame(now time.Time, fr *relayv1.Frame) {
	at, begun, ours := f.place(fr)
	switch {
	case !ours || fr.GetPosition() < fr.GetPrevious():
		f.ignored++
		return
	case begun && fr.GetPosition() < at:
		return // known
	}
	if !begun || fr.GetPrevious() > at || !f.apply(fr, false) {
		f.wait(now, fr)
	}
	f.goOn()
}

// place returns the target's, if the frame is of the same history.
func (f *follower) place(fr *relayv1.Frame) (position uint64, begun, ours bool) {
	at, incarnation, begun := f.target.Place()
	if at.Epoch == 0 {
		f.forget()
		return 0, false, false
	}
	return at.Position, begun, uint32(at.Epoch) == fr.GetEpoch() && incarnation == fr.GetIncarnation()
}

// forget drops what waits: the target doesn't follow, or another history.
func (f *follower) forget() {
	f.waiting, f.bytes, f.answers = nil, 0, nil
	f.missing, f.able, f.asked, f.pause = false, time.Time{}, time.Time{}, 0
}

// wait keeps a frame for when what comes before it is known.
func (f *follower) wait(now time.Time, fr *relayv1.Frame) {
	if !f.missing {
		f.missing, f.pause = true, 0
		f.gaps++
	}
	if fr.GetServing() && f.able.IsZero() {
		f.able, f.pause = now, 0
	}
	i, _ := slices.BinarySearchFunc(f.waiting, fr, func(a, b *relayv1.Frame) int {
		if a.GetPrevious() < b.GetPrevious() || a.GetPrevious() == b.GetPrevious() && a.GetPosition() < b.GetPosition() {
			return -1
		}
		return 1
	})
	f.waiting = slices.Insert(f.waiting, i, fr)
	f.bytes += proto.Size(fr)
	for len(f.waiting) > maxWaiting || f.bytes > maxWaitingBytes && len(f.waiting) > 1 {
		f.drop(1) // the oldest: what was asked for brings that
	}
}

// drop forgets the first n that wait.
func (f *follower) drop(n int) {
	for _, fr := range f.waiting[:n] {
		f.bytes -= proto.Size(fr)
	}
	f.waiting = slices.Delete(f.waiting, 0, n)
}

// goOn applies what has waited, as far as nothing is missing.
func (f *follower) goOn() {
	for len(f.waiting) > 0 {
		first := f.waiting[0]
		at, begun, ours := f.place(first)
		switch {
		case !ours || begun && first.GetPosition() <= at:
		case begun && first.GetPrevious() <= at && f.apply(first, false):
		default:
			return
		}
		if len(f.waiting) > 0 { // else place has forgotten it
			f.drop(1)
		}
	}
	if _, _, begun := f.target.Place(); begun {
		f.missing, f.able, f.pause = false, time.Time{}, 0
	}
}

// due returns what is to be asked now; nil: nothing. When nobody has answered for long, it
// begins anew instead, if there is a frame to begin with.
func (f *follower) due(now time.Time) *relayv1.StateRequest {
	at, incarnation, begun := f.target.Place()
	switch {
	case at.Epoch == 0:
		f.forget()
		return nil
	case begun && len(f.waiting) == 0:
		return nil
	case !f.missing:
		f.missing, f.pause = true, 0
	}
	if !f.able.IsZero() && now.Sub(f.able) >= raiseAfter && f.raise(now) {
		return nil
	}
	if now.Sub(f.asked) < f.pause {
		return nil
	}
	f.asked, f.pause = now, min(max(2*f.pause, askAgain), askMax)
	since := uint64(0)
	if begun {
		since = at.Position
	}
	return &relayv1.StateRequest{Epoch: uint32(at.Epoch), Incarnation: incarnation, Since: since}
}

// raise begins anew with the latest of the frames that wait from which on none is
// missing, and which somebody tells who serves.
func (f *follower) raise(now time.Time) bool {
	from := -1
	reached := uint64(0)
	for i, fr := range f.waiting {
		_, _, ours := f.place(fr)
		if !ours {
			continue
		}
		if from < 0 || fr.GetPrevious() > reached {
			from = -1
			if fr.GetServing() {
				from = i
			}
		}
		reached = max(reached, fr.GetPosition())
	}
	if from < 0 || from >= len(f.waiting) {
		return false
	}
	first := f.waiting[from]
	f.drop(from + 1)
	if !f.apply(first, true) {
		return false
	}
	f.raised++
	f.able = now // for what is still missing
	f.goOn()
	return true
}

// state takes a part of an answer.
func (f *follower) state(st *relayv1.State) {
	fr := st.GetFrame()
	if _, _, ours := f.place(fr); !ours || st.GetPart() >= st.GetParts() || st.GetParts() > maxParts {
		f.ignored++
		return
	}
	i := slices.IndexFunc(f.answers, func(a *answer) bool {
		return a.holder == fr.GetHolder() && a.sequence == fr.GetSequence() && len(a.parts) == int(st.GetParts())
	})
	if i < 0 {
		if len(f.answers) == maxAnswers {
			f.answers = slices.Delete(f.answers, 0, 1)
		}
		i = len(f.answers)
		f.answers = append(f.answers, &answer{fr.GetHolder(), fr.GetSequence(), make([]*relayv1.State, st.GetParts()), int(st.GetParts())})
	}
	a := f.answers[i]
	if a.parts[st.GetPart()] != nil {
		return
	}
	a.parts[st.GetPart()] = st
	if a.missing--; a.missing > 0 {
		return
	}
	f.answers = slices.Delete(f.answers, i, i+1)
	f.answered(a)
	f.goOn()
}

// answered takes an answer that is complete.
func (f *follower) answered(a *answer) {
	all := proto.CloneOf(a.parts[0].GetFrame())
	for _, st := range a.parts[1:] {
		all.Commits = append(all.Commits, st.GetFrame().GetCommits()...)
	}
	all.Commits = join(all.GetCommits())
	at, begun, ours := f.place(all)
	switch {
	case !ours || begun && all.GetPosition() < at:
	case begun && all.GetPrevious() <= at:
		// Each topic is there with its last change only, so no frontier below the end
		// would be true: all of it is told there.
		last := &relayv1.Commit{Position: all.GetPosition()}
		for _, c := range all.GetCommits() {
			if c.GetPosition() > at {
				last.Topics = append(last.Topics, c.GetTopics()...)
				last.Floors = append(last.Floors, c.GetFloors()...)
			}
		}
		all.Commits = nil
		if len(last.GetTopics())+len(last.GetFloors()) > 0 {
			all.Commits = []*relayv1.Commit{last}
		}
		f.apply(all, false)
	case all.GetServing():
		f.apply(all, true)
	}
}

// join makes one of commits that end at the same position: an answer is cut anywhere.
func join(commits []*relayv1.Commit) []*relayv1.Commit {
	var joined []*relayv1.Commit
	for _, c := range commits {
		if n := len(joined); n > 0 && joined[n-1].GetPosition() == c.GetPosition() {
			joined[n-1].Topics = append(joined[n-1].Topics, c.GetTopics()...)
			joined[n-1].Floors = append(joined[n-1].Floors, c.GetFloors()...)
			continue
		}
		joined = append(joined, c)
	}
	return joined
}

// apply gives the target a stretch.
func (f *follower) apply(fr *relayv1.Frame, begin bool) bool {
	t := wal.Told{
		Epoch: freshet.Epoch(fr.GetEpoch()), Incarnation: fr.GetIncarnation(), Holder: fr.GetHolder(), Sequence: fr.GetSequence(),
		Previous: fr.GetPrevious(), Position: fr.GetPosition(), Received: fr.GetReceived(), Begin: begin, Quarantine: patterns(fr.GetQuarantine()),
	}
	for _, c := range fr.GetCommits() {
		t.Commits = append(t.Commits, wal.ToldCommit{
			Commit: freshet.Commit{
				Revision: freshet.Revision{Epoch: t.Epoch, Position: c.GetPosition()}, Topics: c.GetTopics(), Floors: patterns(c.GetFloors()),
				Changes: changesOf(t.Epoch, c),
			},
			XID: c.GetXid(), Alone: c.Xid != nil,
		})
	}
	return f.target.Apply(t)
}

func patterns(texts []string) (ps []freshet.Pattern) {
	for _, text := range texts {
		ps = append(ps, freshet.Pattern(text))
	}
	return ps
}

func textsOf(ps []freshet.Pattern) (texts []string) {
	for _, p := range ps {
		texts = append(texts, string(p))
	}
	return texts
}
