// Package service gives every long-lived part of the program one shape: it is
// started, it may end by itself, and it is stopped.
//
// A Group starts parts in order and stops them in the reverse order, one after
// the other, so that a part can rely on all that were started before it until
// it has ended itself. The group restarts nothing: a part that ends by itself
// ends the group's Wait, and whoever runs the group decides.
package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Group is an ordered set of parts. The zero value is ready for use. Go,
// Defer and Stop may be called from any goroutine; parts added after Stop has
// begun are stopped at once.
type Group struct {
	mu      sync.Mutex // guards the fields below
	parts   []part     // in the order of their start
	ended   chan struct{}
	cause   error // why the first part ended by itself; set before ended is closed
	isEnded bool
}

type part struct {
	name string
	stop func(ctx context.Context) error
}

// Go runs a blocking loop in the background until the group is stopped. run
// gets a context of its own, which nothing but Stop ends, and must return when
// that is done; what it returns then, if it is context.Canceled, counts as nil.
//
// A run that returns earlier, with or without an error, ends Wait. Wait tells
// of the first one, Stop of the others.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error // written before done is closed
	go func() {
		defer close(done)
		err = run(ctx)
		switch {
		case ctx.Err() == nil && g.end(name, err):
			err = nil // Wait tells it
		case errors.Is(err, context.Canceled):
			err = nil
		}
	}()
	g.Defer(name, func(ctx context.Context) error {
		cancel()
		select {
		case <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("still running: %w", ctx.Err())
		}
	})
}

// Defer registers what Stop has to do for a part that runs by itself (a pool,
// an HTTP server). stop should return when its context is done.
func (g *Group) Defer(name string, stop func(ctx context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts = append(g.parts, part{name, stop})
}

// end makes a part's end the group's, and reports whether it is the first.
func (g *Group) end(name string, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isEnded {
		return false
	}
	if err == nil {
		err = errors.New("ended by itself")
	}
	g.cause = fmt.Errorf("%s: %w", name, err)
	g.isEnded = true
	close(g.endedLocked())
	return true
}

func (g *Group) endedLocked() chan struct{} {
	if g.ended == nil {
		g.ended = make(chan struct{})
	}
	return g.ended
}

// Wait blocks until ctx is done (nil) or a part has ended by itself (why,
// with the part's name). It stops nothing.
func (g *Group) Wait(ctx context.Context) error {
	g.mu.Lock()
	ended := g.endedLocked()
	g.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.cause
	}
}

// Stop stops every part, the last one first, and returns what went wrong,
// joined, each with its part's name. When ctx ends, the parts that are left
// are still told to stop, but not waited for. A second call has nothing left
// to do and returns nil.
func (g *Group) Stop(ctx context.Context) error {
	var all error
	for {
		g.mu.Lock()
		if len(g.parts) == 0 {
			g.mu.Unlock()
			return all
		}
		last := g.parts[len(g.parts)-1]
		g.parts = g.parts[:len(g.parts)-1]
		g.mu.Unlock()
		if err := last.stop(ctx); err != nil {
			all = errors.Join(all, fmt.Errorf("stop %s: %w", last.name, err))
		}
	}
}
