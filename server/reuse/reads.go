package reuse

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// Source is where an answer comes from.
type Source string

// The sources. The zero value is that of a read whose answer nobody may share.
const (
	Hit    Source = "hit"    // it was kept
	Joined Source = "joined" // somebody else's query
	Miss   Source = "miss"   // a query of its own
)

// Read is one caller's read.
type Read struct {
	// Method of the contract, as the caller has it; nil, one that is no read, or one that is uncached:
	// the answer is neither kept nor shared.
	Method *contract.Method
	// Request, validated; it is not to be changed any more.
	Request proto.Message
	// Topics of the request, by the method; none: nobody could say that the answer has
	// changed, so it is neither kept nor shared.
	Topics []string
	// Scope says for whom: answers of a method that isn't shared are its own.
	Scope string
	// AtLeast is what the caller asked for, and the frontier had reached before
	// the call. Zero: a strong read, which wants all that was committed before it.
	AtLeast freshet.Revision
	// Spelling returns how rows spell topics: an answer that has topics which no row can
	// have is none, as nobody would be told when it changes. Nil: all pass.
	Spelling func() *contract.Spelling
	// Alone has the answer neither kept nor shared, whatever the method says.
	Alone bool
	// Query asks the database; it may run on another goroutine, and after Do has
	// returned. It returns what its answer, or its error, holds for sure: since the
	// frontier was read before, that is Since.Frontier for a snapshot of the primary's,
	// and may be less, down to Since.AtLeast, for a replica's. The response's message,
	// header and trailer are not to be changed any more.
	Query func(ctx context.Context, since Since) (connect.AnyResponse, freshet.Revision, error)
}

// Since says which snapshots may answer a query.
type Since struct {
	// Frontier was read before; zero: there is none.
	Frontier freshet.Revision
	// AtLeast is what the readers who wait for it need: a replica that has replayed so
	// much will do. Zero: only the primary will.
	AtLeast freshet.Revision
}

// Answer is what a read gets. Beside an error, too: a query may fail since what it
// looked for isn't there, as of a stamp.
type Answer struct {
	Response connect.AnyResponse // read only: it may be sent to many
	// Stamp is up to where it holds all changes. Zero: that isn't known, since there was
	// no frontier as its query began; nor then whether it reaches what was asked for.
	Stamp freshet.Revision
	From  Source
	// Unkept says that nobody may keep the answer, nor compare it with one that was
	// kept: its topics are in quarantine.
	Unkept bool
	// Topics are what it depends on, where the method's answers say that themselves
	// (contract.Method.FromAnswer); else nil.
	Topics []string
}

// Reads lets reads share queries and answers, without anybody seeing less than
// it asked for (G6, G7). Use New.
//
// The floor rule: a read at-least takes the frontier F, and then, in this
// order, its floor, the last change of its topics. An answer whose snapshot
// was taken at or after frontier S ≥ floor is what a query would find now as
// far as F goes: nothing it depends on changed in (S, F]. So it may be
// stamped F, or S if that is higher. In the other order a change could slip
// in between.
//
// Without that proof the answer may still be taken by whoever asked for no more
// than S, and is stamped S: under a steady stream of writes the floor is always
// the newest commit, and every reader would need a query of its own.
//
// A strong read takes no answer from before it arrived: it shares only a query
// that has not begun.
//
// Where an answer has topics that its request doesn't tell (response_topics), the
// floor is that of all topics of the one answer in question, R1 of package contract:
// the first commit in (S, F] that makes the answer another one would have a topic of
// it. What it will depend on isn't known before it is there. So a query that runs is
// joined by those only who asked for no more than it began at, whatever has changed
// since; and its floor is looked up when it has landed, which is after each of their
// frontiers. The topics of the request, or of another answer, prove nothing of it.
//
// All this rests on being told of changes. Of topics in quarantine it isn't so:
// each read is a query of its own then, stamped as such, and nobody keeps it.
type Reads struct {
	node    Node
	maxLag  time.Duration
	cache   *cache
	flights *flights
	metrics *metrics

	maxRequest int // bytes of a message
}

// Do answers a read. The error is the query's, or ctx's; a query that panics is an
// error that says nothing more.
func (r *Reads) Do(ctx context.Context, read Read) (Answer, error) {
	key, ok := keyOf(&read)
	if !ok {
		return r.alone(ctx, &read)
	}
	w, topics := want{asked: read.AtLeast}, read.Topics
	if !w.strong() {
		w.frontier = r.node.Frontier() // before the topics are looked up
	}
	if !read.Method.FromAnswer() {
		w = w.over(r.node, topics)
	}
	if r.node.Quarantined(topics) { // after the frontier
		r.metrics.read(Miss)
		a, err := r.alone(ctx, &read)
		a.From, a.Unkept = Miss, true
		return a, err
	}
	current := r.node.Lag() <= r.maxLag // enough for kept answers
	why := w
	if current {
		if kept, ok := r.cache.get(key); ok && !r.node.Quarantined(kept.topics) {
			if why = w.of(r.node, kept); why.metBy(kept.start) {
				r.metrics.read(Hit)
				r.flights.measured(w, kept.verdict)
				return Answer{Response: kept.response, Stamp: why.stamp(kept.start), From: Hit, Topics: kept.topics}, nil
			}
		}
	}
	return r.fly(ctx, key, w, current, &flight{run: read.Query, topics: topics, depends: read.dependsOn, why: r.causeOf(why, current)})
}

// dependsOn returns the topics of an answer, if it has any that its request doesn't
// tell. The error says that it can't be followed: it isn't given to anybody then. Its receiver is a value: a read that is answered by what is kept needs no
// room of its own then.
func (r Read) dependsOn(response connect.AnyResponse) ([]string, error) {
	if r.Method == nil || !r.Method.FromAnswer() {
		return nil, nil
	}
	message, ok := response.Any().(proto.Message)
	if !ok {
		return nil, errNotProto
	}
	topics, err := r.Method.AnswerTopics(r.Request, message)
	if err == nil && r.Spelling != nil {
		err = r.Spelling().CheckAnswer(r.Method, topics[len(r.Topics):]) // those of the request come first
	}
	if err != nil {
		return nil, err
	}
	return topics, nil
}

// alone answers by a query of its own.
func (r *Reads) alone(ctx context.Context, read *Read) (Answer, error) {
	response, start, err := read.Query(ctx, r.flights.since(r.node.Frontier(), read.AtLeast))
	a := Answer{Response: response, Stamp: start}
	if err == nil {
		a.Topics, err = read.dependsOn(response)
	}
	a.Unkept = r.node.Quarantined(a.Topics)
	return a, err
}

// fly answers by a query that others may share: next, unless there is one.
func (r *Reads) fly(ctx context.Context, key readKey, w want, current bool, next *flight) (Answer, error) {
	f, w, shared := r.flights.join(ctx, key, w, current, next)
	from := Miss
	if shared {
		from = Joined
	}
	r.metrics.read(from)
	if err := r.flights.wait(ctx, key, f); err != nil {
		return Answer{From: from}, err
	}
	if w.floor.IsZero() {
		w = w.of(r.node, f.snapshot())
	}
	r.flights.measured(w, f.verdict)
	return Answer{
		Response: f.response, Stamp: w.stamp(f.start), From: from,
		Topics: f.answered, Unkept: r.node.Quarantined(f.answered),
	}, f.err
}

// causeOf says why no kept answer may be taken, should there be one.
func (r *Reads) causeOf(w want, current bool) cause {
	switch {
	case w.strong():
		return becauseStrong
	case !current:
		return becauseLag
	case w.floor.Compare(r.node.Horizon()) <= 0:
		return becauseHorizon
	}
	return becauseFloor
}

// readKey holds everything that an answer may depend on but the data.
type readKey struct {
	procedure string
	request   string // canonical bytes
	scope     string // unless the method is shared
	caller    string // the claims that its topics take, with their values
}

// keyOf returns the key of a read whose answer may be shared.
func keyOf(read *Read) (_ readKey, ok bool) {
	m := read.Method
	if read.Alone || m == nil || m.Kind != contract.Read || m.Uncached || read.Request == nil || len(read.Topics) == 0 {
		return readKey{}, false
	}
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(read.Request)
	if err != nil {
		return readKey{}, false
	}
	key := readKey{procedure: m.Procedure, request: string(request), caller: m.Caller()}
	if !m.Shared {
		key.scope = read.Scope
	}
	return key, true
}
