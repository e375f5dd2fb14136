package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/server/hub"
)

// Why a node isn't ready, in a word for everybody.
const (
	ReasonStarting = "starting"
	ReasonStopping = "stopping"
	ReasonCapture  = "capture"
	ReasonDatabase = "database"
)

// NotReadyError says why a node isn't ready.
type NotReadyError struct {
	// Reason is one of the constants above: it may be told to anybody.
	Reason string
	// Detail is for operators: it may name databases, addresses and users.
	Detail string

	kind string // Detail without what grows by itself; unset: nothing does
}

func (e *NotReadyError) Error() string { return e.Detail }

// condition is one of those that readiness consists of.
type condition struct {
	reason string
	check  func() error
}

// readiness is whether the node should get traffic, and why not.
type readiness struct {
	// refusal is why calls are refused, in words for everybody; nil: they pass.
	refusal    atomic.Pointer[string]
	retired    atomic.Bool // by Retire
	conditions []condition // asked while Run serves, in order

	mu       sync.Mutex     // guards what follows
	phase    *NotReadyError // why not, while starting or stopping; nil in between
	warnings []string       // what is to be mended and keeps no node from being ready
}

// warn adds to the warnings.
func (r *readiness) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, text)
}

// enter begins a phase in which the node isn't ready. None follows the stop.
func (r *readiness) enter(reason, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == nil || r.phase.Reason != ReasonStopping {
		r.phase = &NotReadyError{Reason: reason, Detail: detail}
	}
}

// open ends the start: from now on calls pass, and the conditions decide.
func (r *readiness) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase.Reason != ReasonStopping {
		r.phase = nil
	}
	r.refusal.Store(nil)
}

// refuse has calls refused.
func (r *readiness) refuse(why string) { r.refusal.Store(&why) }

// check returns nil when the node is ready, else a *NotReadyError.
func (r *readiness) check() error {
	r.mu.Lock()
	phase := r.phase
	r.mu.Unlock()
	if phase != nil {
		return phase
	}
	for _, c := range r.conditions {
		if err := c.check(); err != nil {
			why := &NotReadyError{Reason: c.reason, Detail: err.Error()}
			if lasting, ok := errors.AsType[lastingError](err); ok {
				why.kind = lasting.Kind()
			}
			return why
		}
	}
	return nil
}

// lastingError has a text that says for how long it has been so, which each look finds
// changed. Kind is its text without.
type lastingError interface {
	error
	Kind() string
}

// Ready returns nil while the node should get traffic, else a *NotReadyError. Sources
// in quarantine are no reason against it: answers are right, and Warnings names them. It
// is cheap, and made for a readiness probe: a node that isn't ready may become so
// again by itself.
func (n *Node) Ready() error { return n.ready.check() }

// Warnings tell operators what is to be mended though the node is ready, a
// sentence each: sources in quarantine, reads of tables that they don't declare, and
// topics of another version of the contract.
func (n *Node) Warnings() []string {
	n.ready.mu.Lock()
	warnings := slices.Clone(n.ready.warnings)
	n.ready.mu.Unlock()
	for _, q := range n.feed.Quarantined() {
		warnings = append(warnings, fmt.Sprintf("the source %s has been in quarantine for %s, and waits for: %s", q.Source, q.For.Round(time.Second), q.Waits))
	}
	if foreign := n.feed.Foreign(); len(foreign) > 0 {
		warnings = append(warnings, fmt.Sprintf("another version of the contract, with which nodes follow this database or did, tells topics that this one doesn't, or otherwise: %s are told once per heartbeat (`freshet doctor --leftovers` says what is left of it)", foreign))
	}
	return warnings
}

// notRetired is part of readiness.
func (n *Node) notRetired() error {
	if n.ready.retired.Load() {
		return errors.New("the server is about to stop")
	}
	return nil
}

// caughtUp is part of readiness: there is something to stamp with.
func (n *Node) caughtUp() error {
	if n.hub.Frontier().IsZero() {
		return hub.ErrNotServing
	}
	return nil
}

// poolReady is the last part of readiness, if there is a pool.
func (n *Node) poolReady() error {
	if db := n.pool(); db != nil {
		return db.Ready()
	}
	return nil
}

// wake has readiness looked at. It doesn't block.
func (n *Node) wake() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// isStopping reports whether that is why a node isn't ready.
func isStopping(err error) bool {
	var why *NotReadyError
	return errors.As(err, &why) && why.Reason == ReasonStopping
}

const (
	// lookInterval is how often readiness is looked at while it is gone, though
	// nobody says that it has changed: that a lag falls is nothing anybody tells.
	lookInterval = 250 * time.Millisecond
	// reasonInterval is how often another reason is logged at most: while Postgres
	// starts, attempts to connect fail by turns for two.
	reasonInterval = 5 * time.Second
)

// watchReadiness logs each change of readiness, and why a start takes long; it
// tells OnReady of the first, and has streams sent away when it is gone for long.
// It looks when one of the parts says that something has changed. Only a lag grows
// without a word: it is found within a half of MaxLag.
func (n *Node) watchReadiness(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	told, first := "", true            // what was logged last: ready, or a reason's kind
	at, gone := time.Now(), time.Now() // when told was logged; since when it isn't ready
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.changed:
		case <-timer.C:
		}
		err := n.ready.check()
		if isStopping(err) { // for good, and somebody wants it: there is nothing to tell
			<-ctx.Done()
			return nil
		}
		if err == nil {
			timer.Reset(n.cfg.MaxLag / 2)
			gone = time.Time{}
		} else {
			timer.Reset(lookInterval)
			if gone.IsZero() {
				gone = time.Now()
			}
		}
		if n.cfg.ShedStreams {
			n.streams.Shed(err != nil && time.Since(gone) > n.cfg.MaxLag)
		}
		switch {
		case err == nil && first:
			first, told = false, "ready"
			if n.cfg.OnReady != nil {
				n.cfg.OnReady()
			} else {
				n.cfg.Logger.InfoContext(ctx, "ready")
			}
		case err == nil && told != "ready":
			told = "ready"
			n.cfg.Logger.InfoContext(ctx, "ready again")
		case err != nil && (told == "ready" || told != kindOf(err) && time.Since(at) >= reasonInterval):
			told, at = kindOf(err), time.Now()
			// What to run is in the lines after the first, which whoever found it out has logged.
			reason, _, _ := strings.Cut(err.Error(), "\n")
			n.cfg.Logger.WarnContext(ctx, "not ready", "reason", reason)
		}
	}
}

// kindOf is why a node isn't ready, in words that stay while nothing but the time passes.
func kindOf(err error) string {
	var why *NotReadyError
	if errors.As(err, &why) && why.kind != "" {
		return why.kind
	}
	return err.Error()
}
