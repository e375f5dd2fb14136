package rule

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func TestRule_tableIsTotal(t *testing.T) {
	for p := range phases {
		for k := range kinds {
			require.NotNil(t, table[p][k], "phase %d, kind %d", p, k)
		}
	}
}

// fetched is a rule that holds an answer stamped at position 1.
func fetched(t *testing.T) *Rule {
	t.Helper()
	r := new(Rule)
	step := r.On(Input{Kind: OnReady, Revision: rev(1)})
	require.Equal(t, &Request{Flight: 1, AtLeast: rev(1)}, step.Fetch)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: 1, Revision: rev(1)}))
	require.Equal(t, Idle, r.Phase())
	return r
}

// Without a stream the first fetch is strong, and needs no stamp to be enough.
func TestRule_withoutStream(t *testing.T) {
	r := new(Rule)
	require.Equal(t, &Request{Flight: 1}, r.On(Input{Kind: OnTimer}).Fetch)
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: 1}).Keep)
	require.Equal(t, Idle, r.Phase())
	require.Equal(t, &Request{Flight: 2, AtLeast: rev(3)}, r.On(Input{Kind: OnReady, Revision: rev(3)}).Fetch)
}

// F28: 100 events during a flight cost one more fetch, at-least the last one.
func TestRule_manyEventsDuringAFlight(t *testing.T) {
	r := fetched(t)
	require.NotNil(t, r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch)
	for i := range uint64(100) {
		require.Zero(t, r.On(Input{Kind: OnInvalidate, Revision: rev(3 + i)}))
	}
	step := r.On(Input{Kind: OnAnswer, Flight: 2, Revision: rev(2)})
	require.Equal(t, Step{Keep: true, Fetch: &Request{Flight: 3, AtLeast: rev(102)}}, step)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: 3, Revision: rev(102)}))
	require.Equal(t, Idle, r.Phase())
}

// F29: of two answers the older arrives last.
func TestRule_olderAnswerLast(t *testing.T) {
	r := fetched(t)
	old := r.On(Input{Kind: OnRefresh}).Fetch
	main := r.On(Input{Kind: OnInvalidate, Revision: rev(7)}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: main.Flight, Revision: rev(7)}).Keep)
	require.Equal(t, Step{}, r.On(Input{Kind: OnAnswer, Flight: old.Flight, Revision: rev(5)}))
	require.Equal(t, rev(7), r.Have())
}

// A strong answer that was asked for later is kept though its stamp is lower:
// a frontier may have raised have past it.
func TestRule_strongAndLater(t *testing.T) {
	r := fetched(t)
	r.On(Input{Kind: OnFrontier, Revision: rev(9)})
	require.Equal(t, rev(9), r.Have())
	again := r.On(Input{Kind: OnRefresh}).Fetch
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: again.Flight, Revision: rev(8)}))
	require.Equal(t, rev(9), r.Have())
}

// F34: the epoch changes while a fetch is in flight.
func TestRule_epochChangesInFlight(t *testing.T) {
	next := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 11, Position: p} }
	r := fetched(t)
	old := r.On(Input{Kind: OnInvalidate, Revision: rev(100)}).Fetch
	require.Zero(t, r.On(Input{Kind: OnReset, Revision: next(5)}))
	step := r.On(Input{Kind: OnAnswer, Flight: old.Flight, Revision: rev(100)})
	require.False(t, step.Keep, "positions of different epochs are not compared")

	if step.Pause != nil { // with jitter
		step = r.On(Input{Kind: OnTimer})
	}
	require.Equal(t, next(5), step.Fetch.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight, Revision: next(5)}))

	for _, kind := range []Kind{OnInvalidate, OnReady, OnFrontier} {
		require.Zero(t, r.On(Input{Kind: kind, Revision: rev(200)}), "an old node still talks")
	}
	require.Equal(t, Idle, r.Phase())
}

// F77: a reset wins, also when its epoch is the lower one. What comes from the
// history that it went back from is dropped, until the stream is there again.
func TestRule_F77_resetOfALowerEpoch(t *testing.T) {
	back := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 9, Position: p} }
	r := fetched(t)
	slow := r.On(Input{Kind: OnRefresh}).Fetch
	unstamped := r.On(Input{Kind: OnRefresh}).Fetch
	require.NotNil(t, r.On(Input{Kind: OnReset, Revision: back(5)}).Pause, "with jitter, as all do it")
	require.Equal(t, back(5), r.Need())
	require.Zero(t, r.Have())
	require.False(t, r.Fresh())

	require.Zero(t, r.On(Input{Kind: OnAnswer, Flight: slow.Flight, Revision: rev(7)}), "of the other history")
	require.Zero(t, r.On(Input{Kind: OnAnswer, Flight: unstamped.Flight}), "maybe of the other history")
	require.Zero(t, r.On(Input{Kind: OnInvalidate, Revision: rev(8), Own: true}), "written there")
	f := r.On(Input{Kind: OnTimer}).Fetch
	require.Equal(t, back(5), f.AtLeast)
	lagging := r.On(Input{Kind: OnRefresh}).Fetch // asked of a node that is still there
	require.NotNil(t, r.On(Input{Kind: OnFailure, Flight: f.Flight, EpochChanged: true, Revision: rev(9)}).Pause, "as this one was")
	f = r.On(Input{Kind: OnTimer}).Fetch
	require.Zero(t, f.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: back(6)}))
	require.Zero(t, r.On(Input{Kind: OnAnswer, Flight: lagging.Flight, Revision: rev(9)}))
	require.True(t, r.Fresh())

	require.NotNil(t, r.On(Input{Kind: OnInvalidate, Revision: rev(9)}).Pause, "the stream may go there again")
	require.Equal(t, rev(9), r.On(Input{Kind: OnTimer}).Fetch.AtLeast)
}

// F88: a frame says of an answer only what the stream has caught up on: before
// the first ready of a subscription without a since, nothing.
func TestRule_F88_frontierBeforeReady(t *testing.T) {
	r := new(Rule)
	f := r.On(Input{Kind: OnTimer}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: rev(3)}).Keep)
	r.On(Input{Kind: OnFrontier, Revision: rev(9)})
	require.Equal(t, rev(3), r.Have(), "a change between 3 and 9 may be untold")
	step := r.On(Input{Kind: OnReady, Revision: rev(9)})
	require.Equal(t, rev(9), step.Fetch.AtLeast)
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight, Revision: rev(9)}).Keep)
	r.On(Input{Kind: OnFrontier, Revision: rev(12)})
	require.Equal(t, rev(12), r.Have())

	// Whoever drives it next has a stream of its own.
	r.Rest()
	r.On(Input{Kind: OnFrontier, Revision: rev(15)})
	require.Equal(t, rev(12), r.Have())
}

// F88: a ready without a since says nothing of the time before it.
func TestRule_F88_readyWithoutSince(t *testing.T) {
	for _, resumed := range []bool{true, false} {
		r := new(Rule)
		f := r.On(Input{Kind: OnTimer}).Fetch
		require.True(t, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: rev(3)}).Keep)
		step := r.On(Input{Kind: OnReady, Revision: rev(9), Resumed: resumed})
		if resumed {
			require.Zero(t, step)
			require.Equal(t, rev(9), r.Have())
			continue
		}
		require.Equal(t, rev(9), step.Fetch.AtLeast)
		require.Equal(t, rev(9), r.Need())
		require.Equal(t, rev(3), r.Have())
	}
}

// Of two answers with one stamp, that of the later request stays.
func TestRule_equalStamps(t *testing.T) {
	for _, laterFirst := range []bool{true, false} {
		r := fetched(t)
		first := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
		second := r.On(Input{Kind: OnRefresh}).Fetch
		order := []*Request{first, second}
		if laterFirst {
			order = []*Request{second, first}
		}
		require.True(t, r.On(Input{Kind: OnAnswer, Flight: order[0].Flight, Revision: rev(2)}).Keep)
		require.Equal(t, !laterFirst, r.On(Input{Kind: OnAnswer, Flight: order[1].Flight, Revision: rev(2)}).Keep)
	}
}

// After a reset the answer held has no age: what was asked for before it came
// may be older still, whatever its stamp.
func TestRule_resetDistrustsWhatIsHeld(t *testing.T) {
	r := fetched(t)
	slow := r.On(Input{Kind: OnRefresh}).Fetch
	quick := r.On(Input{Kind: OnRefresh}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: quick.Flight, Revision: rev(2)}).Keep)
	r.On(Input{Kind: OnReset, Revision: rev(3)})
	require.False(t, r.On(Input{Kind: OnAnswer, Flight: slow.Flight, Revision: rev(3)}).Keep)
	f := r.On(Input{Kind: OnTimer}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: rev(3)}).Keep)
}

// AT_LEAST_UNKNOWN: it is forgotten, and a strong read says what there is.
func TestRule_atLeastUnknown(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(1000), Own: true}).Fetch
	require.NotNil(t, r.On(Input{Kind: OnFailure, Flight: f.Flight, Unknown: true}).Pause)
	require.False(t, r.Fresh())
	again := r.On(Input{Kind: OnTimer}).Fetch
	require.Zero(t, again.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: again.Flight, Revision: rev(7)}))
	require.Equal(t, rev(7), r.Have())
	require.Equal(t, Idle, r.Phase())

	// What the stream told stays needed, whatever becomes of the strong read.
	r.On(Input{Kind: OnInvalidate, Revision: rev(9)})
	r.On(Input{Kind: OnInvalidate, Revision: rev(1000), Own: true})
	r.On(Input{Kind: OnFailure, Flight: again.Flight + 1})
	f = r.On(Input{Kind: OnTimer}).Fetch
	require.Equal(t, rev(1000), f.AtLeast)
	r.On(Input{Kind: OnFailure, Flight: f.Flight, Unknown: true})
	f = r.On(Input{Kind: OnTimer}).Fetch
	require.Zero(t, f.AtLeast)
	r.On(Input{Kind: OnFailure, Flight: f.Flight})
	require.Equal(t, rev(9), r.On(Input{Kind: OnTimer}).Fetch.AtLeast)
}

// EPOCH_CHANGED: at-least is dropped, the retry is strong.
func TestRule_epochChangedError(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	step := r.On(Input{Kind: OnFailure, Flight: f.Flight, EpochChanged: true, Revision: freshet.Revision{Epoch: 11}})
	require.NotNil(t, step.Pause)
	step = r.On(Input{Kind: OnTimer})
	if step.Pause != nil {
		step = r.On(Input{Kind: OnTimer})
	}
	require.Zero(t, step.Fetch.AtLeast)
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight, Revision: freshet.Revision{Epoch: 11, Position: 1}}).Keep)
	require.Equal(t, Idle, r.Phase())
}

// F35: stamps that are never known cause a fetch at once, and then ever fewer.
func TestRule_unknownStamps(t *testing.T) {
	r := fetched(t)
	step := r.On(Input{Kind: OnInvalidate, Revision: rev(2)})
	var waited time.Duration
	var fetches int
	for waited < time.Hour {
		if step.Pause != nil {
			require.LessOrEqual(t, step.Pause.Least, longestPause)
			waited += step.Pause.Least
			step = r.On(Input{Kind: OnTimer})
		}
		fetches++
		require.Less(t, fetches, 150)
		step = r.On(Input{Kind: OnAnswer, Flight: step.Fetch.Flight})
		require.True(t, step.Keep, "it is newer than what is held, if not known how much")
	}
	require.Equal(t, rev(1), r.Have())
}

// F35: what came without a stamp isn't replaced by what was asked for before
// it came, whatever its stamp: that may be older.
func TestRule_unknownStampHeld(t *testing.T) {
	r := fetched(t)
	slow := r.On(Input{Kind: OnRefresh}).Fetch
	quick := r.On(Input{Kind: OnRefresh}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: quick.Flight}).Keep)
	require.False(t, r.On(Input{Kind: OnAnswer, Flight: slow.Flight, Revision: rev(2)}).Keep)
}

// unavailable: wait as told, and nothing but the timer ends that wait.
func TestRule_retryInfo(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	step := r.On(Input{Kind: OnFailure, Flight: f.Flight, Wait: time.Minute})
	require.Equal(t, time.Minute, step.Pause.Least)
	require.Zero(t, r.On(Input{Kind: OnFrontier, Revision: rev(3)}))
	require.Equal(t, rev(2), r.On(Input{Kind: OnTimer}).Fetch.AtLeast)
}

// Back-off, on the other hand, ends with the next frontier.
func TestRule_frontierEndsBackOff(t *testing.T) {
	r := fetched(t)
	f := r.On(Input{Kind: OnInvalidate, Revision: rev(2)}).Fetch
	require.NotNil(t, r.On(Input{Kind: OnFailure, Flight: f.Flight}).Pause)
	require.Equal(t, rev(2), r.On(Input{Kind: OnFrontier, Revision: rev(3)}).Fetch.AtLeast)
}

// An answer has led to another history; the stream comes there later, by a reset of a
// node that is behind. The answer is of that history already, so it can be compared: what
// replaces it is no older (G4).
func TestRule_G4_resetToTheHistoryOfTheAnswer(t *testing.T) {
	next := func(p uint64) freshet.Revision { return freshet.Revision{Epoch: 11, Position: p} }
	r := fetched(t)
	early := r.On(Input{Kind: OnRefresh}).Fetch
	f := r.On(Input{Kind: OnRefresh}).Fetch
	require.True(t, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: next(9)}).Keep)
	require.NotNil(t, r.On(Input{Kind: OnReset, Revision: next(5)}).Pause, "with jitter, as all do it")
	require.False(t, r.Fresh(), "nobody has said yet that the answer is of this history")
	require.Equal(t, Step{}, r.On(Input{Kind: OnAnswer, Flight: early.Flight, Revision: next(7)}), "older")
	require.Zero(t, r.On(Input{Kind: OnFrontier, Revision: next(20)}))
	require.Equal(t, next(9), r.Have(), "and no frame speaks of it")
	f = r.On(Input{Kind: OnTimer}).Fetch
	require.Equal(t, next(9), f.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: next(9)}))
	require.True(t, r.Fresh())
}

// The server doesn't know the answer's stamp: then nothing is known of the answer, and a
// strong read says what there is.
func TestRule_resetFromTheFuture(t *testing.T) {
	r := fetched(t)
	r.On(Input{Kind: OnFrontier, Revision: rev(1000)})
	require.NotNil(t, r.On(Input{Kind: OnReset, Revision: rev(50)}).Pause)
	beside := r.On(Input{Kind: OnRefresh}).Fetch
	f := r.On(Input{Kind: OnTimer}).Fetch
	require.Equal(t, rev(1000), f.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: beside.Flight, Revision: rev(51)}))
	require.False(t, r.Fresh(), "it doesn't say that there was a 1000")
	require.NotNil(t, r.On(Input{Kind: OnFailure, Flight: f.Flight, Unknown: true}).Pause)
	f = r.On(Input{Kind: OnTimer}).Fetch
	require.Zero(t, f.AtLeast)
	require.Equal(t, Step{Keep: true}, r.On(Input{Kind: OnAnswer, Flight: f.Flight, Revision: rev(52)}))
	require.True(t, r.Fresh())
	require.Equal(t, rev(52), r.Have())
}
