package rule

import (
	"slices"
	"time"

	"github.com/freshet-dev/freshet"
)

// Follower is a Rule together with the topics of its query, which change with the
// answer that is kept: rule 8 of docs/protocol.md. Like a Rule it does no I/O; who
// drives it gives it what happens, by On, Notice and Answer, and opens the streams
// that it asks for. It never hears of two streams at once. NewFollower makes one.
//
// It upholds, for each topic t that the stream follows:
//
//	F1  A change of t after the data held is at or below need, at or below told(t),
//	    or still to be told by the stream.
//
// A notice of t counts for need only while the answer held has t. So an answer that
// comes later, is older than the notice, and has t must be made to reach told(t):
// nobody will tell it again. A topic that the stream doesn't follow is subscribed
// with since the age of that answer, and until the stream has caught up no frame
// says anything of the data held.
type Follower struct {
	Rule

	topics []string // of the answer held; before the first, of the request
	told   map[string]freshet.Revision
}

// NewFollower returns the follower of a query whose request has these topics.
func NewFollower(topics []string) *Follower { return &Follower{topics: topics} }

// Topics are those of the answer held; before the first, of the request.
func (f *Follower) Topics() []string { return f.topics }

// Open says that a stream begins now, and what it has to follow, since when; what is
// held is of unknown age if that is zero, or has no position. What is told by the
// stream before isn't to be given any more.
func (f *Follower) Open() (topics []string, since freshet.Revision) {
	since = f.Since()
	f.told = make(map[string]freshet.Revision, len(f.topics))
	for _, topic := range f.topics {
		f.told[topic] = since // what comes after is told, be it again
	}
	return f.topics, since
}

// Unfollow says that there is no stream any more: the next answer that is kept has one
// opened. That one says which history is current; until then a higher one is, whatever
// the last stream said.
func (f *Follower) Unfollow() { f.told, f.left = nil, 0 }

// On takes what isn't a notice or an answer.
func (f *Follower) On(in Input) Step {
	if in.Kind == OnReset { // what was told before counts no more, even if it was higher
		for topic := range f.told {
			f.told[topic] = in.Revision
		}
	}
	return f.Rule.On(in)
}

// Notice takes a notice: of topics that the query has, or had and may have again.
func (f *Follower) Notice(topics []string, rev freshet.Revision, spread time.Duration) Step {
	for _, topic := range topics {
		if told, ok := f.told[topic]; ok {
			f.told[topic] = told.Max(rev)
		}
	}
	if slices.ContainsFunc(topics, func(topic string) bool { return slices.Contains(f.topics, topic) }) {
		return f.Rule.On(Input{Kind: OnInvalidate, Revision: rev, Spread: spread})
	}
	return f.Rule.On(Input{Kind: OnFrontier, Revision: rev})
}

// Answer takes the end of a flight with an answer that depends on these topics. With
// reopen the stream doesn't follow them all: another one is to be opened, at once.
func (f *Follower) Answer(in Input, topics []string) (step Step, reopen bool) {
	for _, topic := range topics {
		told, ok := f.told[topic]
		in.Told = in.Told.Max(told)
		in.Unfollowed = in.Unfollowed || !ok
	}
	step = f.Rule.On(in)
	if step.Keep {
		f.topics = topics
	}
	return step, step.Keep && in.Unfollowed
}
