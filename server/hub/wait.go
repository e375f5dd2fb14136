package hub

import (
	"container/heap"
	"context"
	"sync"

	"github.com/freshet-dev/freshet"
)

// Wait returns nil once the frontier is at or above rev, in rev's epoch: at
// once, or when the feed gets there. When the node serves a later epoch it
// returns an *EpochError; a revision of an epoch that is later than the node's
// is waited for like any other. The zero revision is reached as soon as there
// is a frontier at all. ctx bounds the wait, and its error is returned as it is.
//
// It holds nothing but a place in a heap.
func (h *Hub) Wait(ctx context.Context, rev freshet.Revision) error {
	if f := h.frontier.Load(); f != nil && rev.Compare(*f) <= 0 {
		return reached(rev, *f)
	}
	w := &waiter{rev: rev, done: make(chan error, 1)}
	if !h.enqueue(w) {
		return <-w.done
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		h.waiters.remove(w)
		return ctx.Err()
	}
}

// enqueue reports whether w has to wait; if not, it is done. The frontier is
// stored before release takes the waiters' lock, so either we see it here or
// release sees us.
func (h *Hub) enqueue(w *waiter) bool {
	h.waiters.mu.Lock()
	defer h.waiters.mu.Unlock()
	if f := h.frontier.Load(); f != nil && w.rev.Compare(*f) <= 0 {
		w.done <- reached(w.rev, *f)
		return false
	}
	heap.Push(&h.waiters.heap, w)
	return true
}

// reached is what a wait for rev comes to at a frontier that isn't below it.
func reached(rev, frontier freshet.Revision) error {
	if rev.Epoch != frontier.Epoch && !rev.IsZero() {
		return &EpochError{Current: frontier.Epoch}
	}
	return nil
}

// waiter is one call of Wait.
type waiter struct {
	rev   freshet.Revision
	done  chan error // capacity 1, sent to once
	place int        // in the heap; -1 outside
}

// waiters are those who wait for the frontier, the lowest revision first. The
// order is by epoch too, so whoever waits in an ended epoch is first of all.
type waiters struct {
	mu   sync.Mutex
	heap waiterHeap
}

func (w *waiters) release(frontier freshet.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 && w.heap[0].rev.Compare(frontier) <= 0 {
		next := heap.Pop(&w.heap).(*waiter)
		next.done <- reached(next.rev, frontier)
	}
}

func (w *waiters) remove(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.place >= 0 {
		heap.Remove(&w.heap, one.place)
	}
}

func (w *waiters) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.heap)
}

type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].rev.Less(h[j].rev) }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.place = len(*h)
	*h = append(*h, w)
}

func (h *waiterHeap) Pop() any {
	old := *h
	end := len(old) - 1
	w := old[end]
	old[end] = nil
	w.place = -1
	*h = old[:end]
	return w
}
