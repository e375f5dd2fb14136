package intercept

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

// G7: while every reader asks for another revision, the queries of one read
// are paced; each answer still reaches what was asked for, and a strong read is
// not held back.
func TestReuse_pace(t *testing.T) {
	const interval = 50 * time.Millisecond
	r, _ := newReuseRig(t, func(c *Config) { c.ReadInterval = interval })
	var queries atomic.Int64
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		queries.Add(1)
		<-time.After(5 * time.Millisecond) // a query that others come in during
		return &messagesv1.GetMessageResponse{}, nil
	}
	began := time.Now()
	var readers sync.WaitGroup
	position := uint64(200)
	for time.Since(began) < 20*interval {
		position++
		r.hub.Publish(change(position))
		asked := at(position).String()
		answer := r.read(t.Context(), "", asked)
		readers.Go(func() {
			o := <-answer
			if o.err != nil || o.stamp < asked { // the wire form sorts
				t.Errorf("asked for %s: %+v (%v)", asked, o, o.err)
			}
		})
		time.Sleep(time.Millisecond) // the load, not a wait
	}
	readers.Wait()
	took := time.Since(began)
	t.Logf("%d revisions asked for, %d queries in %s", position-200, queries.Load(), took.Round(time.Millisecond))
	require.LessOrEqual(t, int(queries.Load()), burst+int(took/interval)+5)
}

// Somebody who reads alone never waits for a turn, also when it follows what it
// reads.
func TestReuse_paceLetsALoneReaderPass(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	position := uint64(200)
	for range 10 * burst {
		position++
		r.hub.Publish(change(position))
		require.Equal(t, at(position).String(), r.reads(t, at(position).String()).stamp)
		require.Equal(t, cacheHit, r.reads(t, at(position).String()).cache)
	}
}

// Readers who follow a read and come for it one after the other, each for
// another revision, share the pace though none meets another.
func TestReuse_paceOfThoseWhoNeverMeet(t *testing.T) {
	r, i := newReuseRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	r.follow(t)
	position := uint64(200)
	next := func() string {
		position++
		r.hub.Publish(change(position))
		return at(position).String()
	}
	for range burst {
		require.Equal(t, cacheMiss, r.reads(t, next()).cache)
	}
	rev := next()
	held := r.read(t.Context(), "", rev)
	r.queued(t, i, 1)
	require.GreaterOrEqual(t, r.reads(t, "").stamp, rev, "a strong read waits for no turn")
	o := waitFor(t, held, "the read that the strong one took along")
	require.NoError(t, o.err)
	require.Equal(t, rev, o.stamp)
}

// However many strong reads there were, those at-least wait no longer for it.
func TestReuse_paceDoesNotCountStrongReads(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	r.follow(t)
	for range 10 * burst {
		r.reads(t, "")
	}
	r.hub.Publish(change(201))
	require.Equal(t, at(201).String(), r.reads(t, at(201).String()).stamp)
}

// follow opens a subscription to what the rig's reads read.
func (r *rig) follow(t *testing.T) {
	t.Helper()
	s, err := r.hub.Subscribe([]string{name}, hub.Since{})
	require.NoError(t, err)
	t.Cleanup(s.Close)
}
