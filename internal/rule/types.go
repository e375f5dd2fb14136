package rule

import (
	"time"

	"github.com/freshet-dev/freshet"
)

// Phase is what a Rule is doing.
type Phase uint8

const (
	// Pausing waits for the timer, at first for the stream.
	Pausing Phase = iota
	// Idle holds an answer that is as fresh as anything heard.
	Idle
	// Flying waits for the end of its request.
	Flying
	phases
)

// Kind is the kind of an Input.
type Kind uint8

const (
	// OnInvalidate: the query's topics changed at Revision. Own: the stream
	// didn't say so, but the answer to an own write.
	OnInvalidate Kind = iota
	// OnReady: subscribed at Revision. Resumed: with a since, so that all
	// changes after it have been told; else nothing is known of the time before.
	// Before the first of them, no frontier says anything of the answer held.
	OnReady
	// OnFrontier: all changes up to Revision have been told.
	OnFrontier
	// OnReset: another history begins at Revision. It counts also if its epoch is
	// a lower one: whoever sends it has proved that the database is in it.
	OnReset
	// OnAnswer: Flight ended with an answer stamped Revision (zero: unknown).
	OnAnswer
	// OnFailure: Flight ended without one. Wait is what the server asked for,
	// if it did. EpochChanged: at-least is of an ended history; Revision is the
	// current one, if the server named it. Unknown: at-least is none that the
	// server has given.
	OnFailure
	// OnTimer: the Step's wait is over.
	OnTimer
	// OnRefresh: somebody wants a strong fetch now.
	OnRefresh
	// OnAnother: somebody else calls from now on, or the same with other claims. What
	// is held, or under way, is no answer to them.
	OnAnother
	kinds
)

// Input is one thing that happened. Fields that its kind doesn't name are unset.
type Input struct {
	Kind         Kind
	Revision     freshet.Revision
	Own          bool // OnInvalidate
	Resumed      bool
	Spread       time.Duration // OnInvalidate: wait a random time up to this
	Flight       int
	Wait         time.Duration
	EpochChanged bool
	Unknown      bool
	// Told, of OnAnswer, is the highest that the stream has told of its topics: what
	// it has to hold, if it is kept. Unfollowed: the stream doesn't follow them all.
	// A Follower sets both.
	Told       freshet.Revision
	Unfollowed bool
}

// Step is what to do now. At most one of Fetch and Pause is set.
type Step struct {
	// Keep: the answer that came with this input is now the query's.
	Keep bool
	// Fetch: send this.
	Fetch *Request
	// Pause: stop the timer of an earlier pause and give OnTimer after this one.
	Pause *Pause
}

// Request is a fetch.
type Request struct {
	// Flight names it in the Input that ends it.
	Flight int
	// AtLeast is what to ask for; zero: a strong read.
	AtLeast freshet.Revision
}

// Pause is a wait of Least plus a random time up to Spread.
type Pause struct{ Least, Spread time.Duration }
