package intercept

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
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

// Somebody who reads alone never waits for a turn.
func TestReuse_paceLetsALoneReaderPass(t *testing.T) {
	r, _ := newReuseRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{}, nil
	}
	for position := uint64(201); position < 201+10*burst; position++ {
		r.hub.Publish(change(position))
		require.Equal(t, at(position).String(), r.reads(t, at(position).String()).stamp)
	}
}

// Readers that come one after the other, and take what the first one's query
// found, share it: the next query waits for its turn. A strong read does not.
func TestReuse_paceCountsKeptAnswers(t *testing.T) {
	r, i := newReuseRig(t, func(c *Config) { c.ReadInterval = time.Hour })
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return &messagesv1.GetMessageResponse{}, nil
	}
	position := uint64(200)
	next := func() string {
		position++
		r.hub.Publish(change(position))
		return at(position).String()
	}
	for range burst {
		rev := next()
		require.Equal(t, cacheMiss, r.reads(t, rev).cache)
		require.Equal(t, cacheHit, r.reads(t, rev).cache)
		require.Equal(t, cacheHit, r.reads(t, rev).cache, "and counts once")
	}
	rev := next()
	held := r.read(t.Context(), "", rev)
	r.queued(t, i, 1)
	require.GreaterOrEqual(t, r.reads(t, "").stamp, rev)
	o := waitFor(t, held, "the read that the strong one took along")
	require.NoError(t, o.err)
	require.Equal(t, rev, o.stamp)
}
