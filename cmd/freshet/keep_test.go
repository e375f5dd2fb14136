package main

import (
	"context"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// programs are run one after the other.
type programs struct {
	lastRun
	left []*exec.Cmd
}

func (p *programs) Restart(context.Context) error {
	next, err := startProcess(p.left[0], "", io.Discard, nil)
	if err != nil {
		return err
	}
	p.left = p.left[1:]
	p.is(next)
	return nil
}

// What somebody has stopped in order is started again, too, but nothing has failed: an
// error is what ended otherwise.
func TestKeep_orderly(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(testkit.Context(t))
	log := new(testkit.Buffer)
	of := &programs{left: []*exec.Cmd{exec.CommandContext(ctx, "true"), exec.CommandContext(ctx, "false"), exec.CommandContext(ctx, "sleep", "600")}}
	require.NoError(t, of.Restart(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		keep(ctx, slog.New(slog.NewTextHandler(log, nil)), "it", of)
	}()
	require.Eventually(t, func() bool {
		return strings.Count(log.String(), "started again") == 2
	}, time.Minute, time.Millisecond)
	require.Regexp(t, `level=INFO msg="it was stopped: it is started again" pause=0s\n.*level=ERROR msg="it ended: it is started again" error="exit status 1" pause=1s\n`, log.String())
	stop()
	<-kept
	of.run().kill()
}

// Whoever ends a cluster may end its parts as well: that they have ended is no error then.
func TestKeep_allAreStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(testkit.Context(t))
	log := new(testkit.Buffer)
	of := &programs{left: []*exec.Cmd{exec.CommandContext(ctx, "false")}}
	require.NoError(t, of.Restart(ctx))
	<-of.Done()
	stop()
	for range 50 { // which of the two is seen first, nobody knows
		keep(ctx, slog.New(slog.NewTextHandler(log, nil)), "it", of)
	}
	require.Empty(t, log.String())
}
