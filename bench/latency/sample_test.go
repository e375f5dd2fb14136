package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func named(conversation string) string { return "conversations/" + conversation + "/messages/1" }

// The four things that make a sample whole come in any order.
func TestBook_joinsInAnyOrder(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, order := range [][]string{
		{"commit", "notice", "data", "merged"},
		{"notice", "data", "commit", "merged"}, // faster than COMMIT's answer
		{"merged", "notice", "commit", "data"},
	} {
		b := newBook([]string{"a", "b"})
		s, err := b.begin(named)
		require.NoError(t, err)
		require.Equal(t, "conversations/a/messages/1", s.message)
		for _, what := range order {
			finished, _, _ := b.counts()
			require.Zero(t, finished, "not whole before the last")
			switch what {
			case "commit":
				b.committed(s, at(0), at(2))
			case "notice":
				got, ok := b.noticed("a", at(1))
				require.True(t, ok)
				require.Same(t, s, got)
			case "merged":
				b.mergedNotice("a", at(50))
			case "data":
				b.refetched(s, at(5))
			}
		}
		require.NoError(t, b.drain(t.Context()))
		got := map[string]millis{}
		for _, q := range quantities {
			got[q.Key] = millisOf(q.of(s))
		}
		require.Equal(t, map[string]millis{
			"notice": -1, "data": 3, "notice_throttled": 48,
			"sent_to_notice": 1, "sent_to_data": 5, "sent_to_return": 2,
		}, got)
		require.Len(t, b.between(at(0), at(1)), 1)
		require.Empty(t, b.between(at(1), at(9)))
		require.Empty(t, b.between(at(-1), at(0)))
	}
}

func TestBook_strayAndEarly(t *testing.T) {
	b := newBook([]string{"a"})
	_, ok := b.noticed("a", time.Now())
	require.False(t, ok, "no commit")
	b.mergedNotice("nobody", time.Now())
	s, err := b.begin(named)
	require.NoError(t, err)
	_, ok = b.noticed("a", time.Now())
	require.True(t, ok)
	_, ok = b.noticed("a", time.Now())
	require.False(t, ok, "told already: no second refetch")
	b.tooEarly(s)
	_, early, stray := b.counts()
	require.Equal(t, [2]int{1, 3}, [2]int{early, stray})
}

// A commit that is never told must fail the run, not shorten it.
func TestBook_lostNotice(t *testing.T) {
	b := newBook([]string{"a"})
	s, err := b.begin(named)
	require.NoError(t, err)
	b.committed(s, time.Now(), time.Now())
	_, err = b.begin(named)
	require.ErrorContains(t, err, "can't keep up")

	lost := errors.New("waited long enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lost)
	err = b.drain(ctx)
	require.ErrorIs(t, err, lost)
	require.ErrorContains(t, err, "1 of them without a notice")
}

func TestBook_drainWaitsForTheLast(t *testing.T) {
	b := newBook([]string{"a"})
	s, err := b.begin(named)
	require.NoError(t, err)
	drained := make(chan error, 1)
	go func() { drained <- b.drain(t.Context()) }()
	b.committed(s, time.Now(), time.Now())
	b.noticed("a", time.Now())
	b.mergedNotice("a", time.Now())
	b.refetched(s, time.Now())
	require.NoError(t, <-drained)
	_, err = b.begin(named)
	require.NoError(t, err, "the conversation is free again")
}

func TestTopicOf(t *testing.T) {
	require.Equal(t, "conversations/measured-7/messages", topicOf("measured-7"))
	require.Equal(t, "measured-7", conversationOf(topicOf("measured-7")))
}
