package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// sample is one measured commit and what followed from it. Times are this
// process's monotonic clock; writer, stream and reader all live in it.
type sample struct {
	conversation string
	message      string    // resource name of the row written
	sent         time.Time // right before COMMIT was sent
	committed    time.Time // right after it returned
	noticed      time.Time // the stream without throttle named the topic
	merged       time.Time // the stream with the server's default throttle did
	refetched    time.Time // a response with the row was here
	early        int       // responses before that one: each breaks G1
}

func (s *sample) whole() bool {
	return !s.committed.IsZero() && !s.noticed.IsZero() && !s.merged.IsZero() && !s.refetched.IsZero()
}

// quantity is something that a sample tells.
type quantity struct {
	Key   string `json:"key"`
	Label string `json:"label"`
	of    func(*sample) time.Duration
}

// quantities in the order of the table. The first three are the headline, and
// the lines of the plot.
var quantities = []quantity{
	{"notice", "commit → notice", func(s *sample) time.Duration { return s.noticed.Sub(s.committed) }},
	{"data", "commit → refetched data", func(s *sample) time.Duration { return s.refetched.Sub(s.committed) }},
	{"notice_throttled", "commit → notice, default throttle", func(s *sample) time.Duration { return s.merged.Sub(s.committed) }},
	{"sent_to_notice", "COMMIT sent → notice", func(s *sample) time.Duration { return s.noticed.Sub(s.sent) }},
	{"sent_to_data", "COMMIT sent → refetched data", func(s *sample) time.Duration { return s.refetched.Sub(s.sent) }},
	{"sent_to_return", "COMMIT sent → returned", func(s *sample) time.Duration { return s.committed.Sub(s.sent) }},
}

// book joins what writer, streams and readers saw of each commit. A
// conversation carries one unfinished sample at a time, so that a notice names
// the commit that it is for, however many were merged into one frame. Safe for
// concurrent use.
type book struct {
	mu       sync.Mutex // guards all below
	free     []string   // conversations, longest idle first
	open     map[string]*sample
	finished []*sample
	early    int           // G1: responses that lacked the row they were told of
	stray    int           // notices of conversations without an open sample
	changed  chan struct{} // closed, and replaced, when a sample is finished
}

func newBook(conversations []string) *book {
	return &book{
		free:    append([]string(nil), conversations...),
		open:    make(map[string]*sample),
		changed: make(chan struct{}),
	}
}

// begin opens a sample. message makes the name of the row to be written.
func (b *book) begin(message func(conversation string) string) (*sample, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) == 0 {
		return nil, fmt.Errorf("all %d measured conversations wait for notices or data: this machine can't keep up", len(b.open))
	}
	s := &sample{conversation: b.free[0]}
	b.free = b.free[1:]
	s.message = message(s.conversation)
	b.open[s.conversation] = s
	return s, nil
}

// committed is called by the writer.
func (b *book) committed(s *sample, sent, returned time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.sent, s.committed = sent, returned
	b.settle(s)
}

// noticed is called by the unthrottled stream. It returns the row that a read
// at-least the notice's revision must contain; false: the topic has no open
// sample, or it was told already.
func (b *book) noticed(conversation string, at time.Time) (*sample, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.open[conversation]
	if s == nil || !s.noticed.IsZero() {
		b.stray++
		return nil, false
	}
	s.noticed = at
	b.settle(s)
	return s, true
}

// mergedNotice is called by the throttled stream.
func (b *book) mergedNotice(conversation string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.open[conversation]
	if s == nil || !s.merged.IsZero() {
		b.stray++
		return
	}
	s.merged = at
	b.settle(s)
}

// tooEarly counts a response that lacked the row.
func (b *book) tooEarly(s *sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.early++
	b.early++
}

// refetched is called by the reader that saw the row.
func (b *book) refetched(s *sample, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.refetched = at
	b.settle(s)
}

// settle closes a sample that is whole. The caller holds mu.
func (b *book) settle(s *sample) {
	if !s.whole() {
		return
	}
	delete(b.open, s.conversation)
	b.free = append(b.free, s.conversation)
	b.finished = append(b.finished, s)
	close(b.changed)
	b.changed = make(chan struct{})
}

// drain waits until no sample is open. Its error says what is missing: a
// commit without a notice is a broken guarantee, not a slow one.
func (b *book) drain(ctx context.Context) error {
	for {
		b.mu.Lock()
		open, changed := len(b.open), b.changed
		var unnoticed int
		for _, s := range b.open {
			if s.noticed.IsZero() || s.merged.IsZero() {
				unnoticed++
			}
		}
		b.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d commits are unfinished, %d of them without a notice: %w", open, unnoticed, context.Cause(ctx))
		}
	}
}

// verdict is an error if a response broke G1; stray notices are told alongside.
func (b *book) verdict() (stray int, _ error) {
	_, early, stray := b.counts()
	if early > 0 {
		return stray, fmt.Errorf("%d responses lacked the row that they were refetched for: G1 is broken", early)
	}
	return stray, nil
}

// between returns the finished samples whose COMMIT was sent in [from, to).
func (b *book) between(from, to time.Time) []*sample {
	b.mu.Lock()
	defer b.mu.Unlock()
	var in []*sample
	for _, s := range b.finished {
		if !s.sent.Before(from) && s.sent.Before(to) {
			in = append(in, s)
		}
	}
	return in
}

// counts returns how many samples are finished, early responses and stray
// notices.
func (b *book) counts() (finished, early, stray int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.finished), b.early, b.stray
}
