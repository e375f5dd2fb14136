package reuse

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

// G7: while every reader asks for another revision, the queries of one read
// are paced; each answer still reaches what was asked for, and a strong read is
// not held back.
func TestReads_pace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 50 * time.Millisecond
		r := newRig(t, func(c *Config) { c.ReadInterval = interval })
		var queries atomic.Int64
		r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
			queries.Add(1)
			time.Sleep(5 * time.Millisecond) // a query that others come in during
			return &messagesv1.GetMessageResponse{}, nil
		}
		began := time.Now()
		var readers sync.WaitGroup
		position := uint64(200)
		for time.Since(began) < 20*interval {
			position++
			r.hub.Publish(change(position))
			asked := at(position)
			answer := r.read(t.Context(), "", asked)
			readers.Go(func() {
				if o := <-answer; o.err != nil || o.stamp.Less(asked) {
					t.Errorf("asked for %s: %+v (%v)", asked, o, o.err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		readers.Wait()
		took := time.Since(began)
		t.Logf("%d revisions asked for, %d queries in %s", position-200, queries.Load(), took)
		require.LessOrEqual(t, int(queries.Load()), burst+int(took/interval)+1)
		require.Greater(t, int(queries.Load()), burst, "nobody was held back for longer than that")
	})
}

// Somebody who reads alone never waits for a turn, also when it follows what it
// reads.
func TestReads_paceLetsALoneReaderPass(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	position := uint64(200)
	for range 10 * burst {
		position++
		r.hub.Publish(change(position))
		require.Equal(t, at(position), r.reads(t, at(position)).stamp)
		require.Equal(t, Hit, r.reads(t, at(position)).from)
	}
}

// Readers who follow a read and come for it one after the other, each for
// another revision, share the pace though none meets another.
func TestReads_paceOfThoseWhoNeverMeet(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	r.follow(t)
	position := uint64(200)
	next := func() freshet.Revision {
		position++
		r.hub.Publish(change(position))
		return at(position)
	}
	for range burst {
		require.Equal(t, Miss, r.reads(t, next()).from)
	}
	rev := next()
	held := r.read(t.Context(), "", rev)
	r.queued(t, 1)
	require.False(t, r.reads(t, strong).stamp.Less(rev), "a strong read waits for no turn")
	o := waitFor(t, held, "the read that the strong one took along")
	require.NoError(t, o.err)
	require.Equal(t, rev, o.stamp)
}

// However many strong reads there were, those at-least wait no longer for it.
func TestReads_paceDoesNotCountStrongReads(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.follow(t)
	r.follow(t)
	for range 10 * burst {
		r.reads(t, strong)
	}
	r.hub.Publish(change(201))
	require.Equal(t, at(201), r.reads(t, at(201)).stamp)
}

// follow opens a subscription to what the rig's reads read.
func (r *rig) follow(t *testing.T) {
	t.Helper()
	s, err := r.hub.Subscribe([]string{name}, hub.Since{})
	require.NoError(t, err)
	t.Cleanup(s.Close)
}
