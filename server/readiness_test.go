package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// behind is a reason that says for how long.
type behind time.Duration

func (b behind) Error() string { return fmt.Sprintf("%s behind", time.Duration(b)) }
func (b behind) Kind() string  { return "behind" }

// Why a node isn't ready is logged once, however long that lasts, and again when it is for
// another reason. /readyz goes on to say for how long.
func TestNode_readinessIsLoggedByKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testkit.Buffer
		began := time.Now()
		var because atomic.Pointer[error] // nil: behind
		n := &Node{changed: make(chan struct{}, 1), cfg: Config{MaxLag: time.Second, Logger: log.Logger()}}
		n.ready.conditions = []condition{
			{ReasonStarting, func() error { return nil }},
			{ReasonCapture, func() error {
				if err := because.Load(); err != nil {
					return *err
				}
				return fmt.Errorf("capture: %w", behind(time.Since(began)))
			}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.watchReadiness(ctx) }()
		said := func() []string {
			synctest.Wait()
			var reasons []string
			for line := range strings.Lines(log.String()) {
				if _, reason, ok := strings.Cut(line, "level=WARN"); ok {
					reasons = append(reasons, strings.TrimSpace(reason))
				}
			}
			return reasons
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{`msg="not ready" reason="capture: 5s behind"`}, said())
		require.EqualError(t, n.Ready(), "capture: 1m0s behind", "for whoever asks it goes on")
		other := errors.New("the connection was refused")
		because.Store(&other)
		time.Sleep(time.Minute)
		require.Equal(t, []string{`msg="not ready" reason="capture: 5s behind"`, `msg="not ready" reason="the connection was refused"`}, said())
		cancel()
		require.NoError(t, <-ended)
	})
}
