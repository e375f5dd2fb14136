package service_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freshet-dev/freshet/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroup_stopsInReverseOrder(t *testing.T) {
	var g service.Group
	var order []string
	g.Defer("pool", func(context.Context) error { order = append(order, "pool"); return nil })
	g.Go("feed", func(ctx context.Context) error {
		<-ctx.Done()
		order = append(order, "feed")
		return ctx.Err()
	})
	g.Defer("http", func(context.Context) error { order = append(order, "http"); return nil })

	require.NoError(t, g.Stop(t.Context()))
	require.Equal(t, []string{"http", "feed", "pool"}, order)
	require.NoError(t, g.Stop(t.Context()), "a second Stop has nothing left to do")
	require.Len(t, order, 3)
}

func TestGroup_waitEndsWithTheFirstPartThatEndsByItself(t *testing.T) {
	var g service.Group
	boom := errors.New("boom")
	g.Go("feed", func(context.Context) error { return boom })
	err := g.Wait(t.Context())
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "feed: ")
	require.NoError(t, g.Stop(t.Context()), "it is told once")

	var quiet service.Group
	quiet.Go("feed", func(context.Context) error { return nil })
	require.EqualError(t, quiet.Wait(t.Context()), "feed: ended by itself")
	require.NoError(t, quiet.Stop(t.Context()))
}

func TestGroup_waitEndsWithItsContext(t *testing.T) {
	var g service.Group
	g.Go("feed", func(ctx context.Context) error { <-ctx.Done(); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, g.Wait(ctx))
	require.NoError(t, g.Stop(t.Context()))
}

func TestGroup_stopJoinsErrorsAndDoesNotWaitBeyondItsContext(t *testing.T) {
	var g service.Group
	release := make(chan struct{})
	told := make(chan struct{})
	g.Go("first", func(ctx context.Context) error { <-ctx.Done(); close(told); return nil })
	g.Go("stuck", func(context.Context) error { <-release; return nil })
	boom := errors.New("boom")
	g.Defer("http", func(context.Context) error { return boom })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.Stop(ctx)
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "stop stuck: still running")
	<-told // it was told to stop, though nobody had time to wait
	close(release)
}
