package client

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/freshet-dev/freshet"
)

// Event is what a sink is told: one of [Connected], [Disconnected],
// [Invalidate], [Ready], [Reset], [Frontier], [Renewed], [RenewalFailed]. New kinds may be added; a sink
// ignores those that it doesn't know.
type Event interface{ event() }

// Connected says that the server accepted the subscription. What changed since
// the last revision follows, then Ready.
type Connected struct{}

// Disconnected says that an attempt ended or could not begin. Until the next
// Ready, what the caller holds may be stale.
type Disconnected struct {
	// Err is why: [ErrClosed], a *[SilenceError], *[StatusError],
	// *[ProtocolError], or an error of the network.
	Err error
	// Retry is how long Stream waits before the next attempt.
	Retry time.Duration
}

// Invalidate says that topics changed. A list that the server had to split
// arrives whole.
type Invalidate struct {
	// Revision is the highest at which one of the topics changed: a read
	// at-least Revision sees all of it (G1).
	Revision freshet.Revision
	// Topics are some of those subscribed. The slice is the sink's to keep.
	Topics []string
	// Spread asks to wait a random time up to this before refetching.
	Spread time.Duration
}

// Ready says that the subscription is caught up: every later change to its
// topics will be told.
type Ready struct {
	// Revision is the node's frontier at that moment.
	Revision freshet.Revision
	// Topics is the number of topics subscribed.
	Topics int
	// Heartbeat is the longest time between two frames.
	Heartbeat time.Duration
	// Contract names the server's contract.
	Contract string
	// ExpiresIn is how long the token still counts, for which the server keeps the
	// stream. Zero: it doesn't end for that.
	ExpiresIn time.Duration
}

// Reset says that the revisions the client knows belong to another history:
// everything that it holds may be wrong. Refetch all, with jitter.
type Reset struct {
	// Revision is the node's frontier in the new history.
	Revision freshet.Revision
	// Reason is why: `epoch`.
	Reason string
}

// Frontier is the heartbeat. Every change to the subscribed topics up to
// Revision has been told.
type Frontier struct {
	Revision freshet.Revision
	// Lag is how far the node is behind the database.
	Lag time.Duration
}

// Renewed says that a stream with a fresh token has taken the place of the one before.
// Nothing was missed, and nothing has to be done.
type Renewed struct{}

// RenewalFailed says that there is no stream with a fresh token yet. The one that is
// there goes on, until its token expires.
type RenewalFailed struct {
	// Err is why: the token source's error, or one as of [Disconnected].
	Err error
	// Retry is how long Stream waits before it tries again.
	Retry time.Duration
}

func (Connected) event()     {}
func (Disconnected) event()  {}
func (Invalidate) event()    {}
func (Ready) event()         {}
func (Reset) event()         {}
func (Frontier) event()      {}
func (Renewed) event()       {}
func (RenewalFailed) event() {}

// decode reads one frame. An event of a name that version 1 doesn't have is
// nil: a later server may send it. The error is a *ProtocolError, or an *EndError.
//
// An Invalidate without a revision is a part of a list that was split.
func decode(name string, data []byte) (Event, error) {
	var (
		d struct {
			Revision    string
			Topics      json.RawMessage
			SpreadMS    float64 `json:"spread_ms"`
			HeartbeatMS float64 `json:"heartbeat_ms"`
			LagMS       float64 `json:"lag_ms"`
			ExpiresMS   float64 `json:"expires_ms"`
			Contract    string
			Reason      string
		}
		rev freshet.Revision
	)
	switch name {
	case "invalidate", "ready", "reset", "frontier", "end":
	default:
		return nil, nil
	}
	bad := func(err error) (Event, error) { return nil, &ProtocolError{Event: name, Err: err} }
	if err := json.Unmarshal(data, &d); err != nil {
		return bad(err)
	}
	if name == "end" {
		return nil, &EndError{Reason: d.Reason}
	}
	if d.Revision != "" || name != "invalidate" {
		var err error
		if rev, err = freshet.ParseRevision(d.Revision); err != nil {
			return bad(err)
		}
	}
	switch name {
	case "invalidate":
		e := Invalidate{Revision: rev, Spread: millis(d.SpreadMS)}
		if err := json.Unmarshal(d.Topics, &e.Topics); err != nil {
			return bad(fmt.Errorf("topics: %w", err))
		}
		for _, topic := range e.Topics {
			// Whoever prints a topic to a terminal or a log relies on this.
			if err := freshet.CheckTopic(topic); err != nil {
				return bad(err)
			}
		}
		return e, nil
	case "ready":
		e := Ready{Revision: rev, Heartbeat: millis(d.HeartbeatMS), Contract: d.Contract, ExpiresIn: millis(d.ExpiresMS)}
		if d.Topics != nil {
			if err := json.Unmarshal(d.Topics, &e.Topics); err != nil {
				return bad(fmt.Errorf("topics: %w", err))
			}
		}
		return e, nil
	case "reset":
		return Reset{Revision: rev, Reason: d.Reason}, nil
	default:
		return Frontier{Revision: rev, Lag: millis(d.LagMS)}, nil
	}
}

// millis turns a server's number of milliseconds into a duration that can't
// overflow arithmetic: from 0 to a year.
func millis(ms float64) time.Duration {
	const year = 365 * 24 * time.Hour
	if !(ms > 0) { // NaN too
		return 0
	}
	return time.Duration(math.Min(ms*float64(time.Millisecond), float64(year)))
}
