// Package turns gives out places, of which there are so many, to those who wait for
// one: in turns, so that who has hundreds waiting doesn't keep others from theirs.
package turns

import (
	"container/list"
	"context"
	"sync"
)

// Turns gives out places. It is safe for concurrent use. Use New.
//
// Invariant: nobody waits while a place is free. So whoever comes when one is free
// takes it, and a place that is given back goes to who waits, if somebody does.
type Turns struct {
	places int

	mu    sync.Mutex // guards what follows
	inUse int
	lines map[string]*line // of those who wait; none is empty
	order list.List        // of *line: whose turn it is, and so on
}

// line is what waits of one who, in the order in which it came.
type line struct {
	who     string
	waiting list.List // of *waiter
	place   *list.Element
}

type waiter struct {
	granted chan struct{} // closed once it has a place
}

// New returns so many places, at least one.
func New(places int) *Turns {
	return &Turns{places: max(places, 1), lines: map[string]*line{}}
}

// Acquire waits for a place, which is to be given back by Release, or until ctx ends,
// and returns its error then. Who waits comes after at most one of each other who.
func (t *Turns) Acquire(ctx context.Context, who string) error {
	w, l := t.enter(who)
	if w == nil {
		return nil
	}
	select {
	case <-w.Value.(*waiter).granted:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.Value.(*waiter).granted: // just now
		return nil
	default:
	}
	l.waiting.Remove(w)
	if l.waiting.Len() == 0 {
		t.order.Remove(l.place)
		delete(t.lines, who)
	}
	return ctx.Err()
}

// enter takes a place, and returns nil, or takes its place in its line.
func (t *Turns) enter(who string) (*list.Element, *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inUse < t.places {
		t.inUse++
		return nil, nil
	}
	l := t.lines[who]
	if l == nil {
		l = &line{who: who}
		l.place = t.order.PushBack(l)
		t.lines[who] = l
	}
	return l.waiting.PushBack(&waiter{granted: make(chan struct{})}), l
}

// Release gives a place back.
func (t *Turns) Release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.order.Front()
	if first == nil {
		t.inUse--
		return
	}
	l := first.Value.(*line)
	w := l.waiting.Remove(l.waiting.Front()).(*waiter)
	if l.waiting.Len() == 0 {
		t.order.Remove(first)
		delete(t.lines, l.who)
	} else {
		t.order.MoveToBack(first)
	}
	close(w.granted)
}

// InUse is how many places are taken.
func (t *Turns) InUse() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inUse
}

// Places is how many there are.
func (t *Turns) Places() int { return t.places }
