package seldom

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A flood of one message is bounded, and says what it left out; others are heard
// beside it.
func TestLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		require.Same(t, l, Logger(l), "once is enough")
		said := func(text string) int { return strings.Count(out.String(), text) }
		flood := func() {
			for i := range 1000 {
				l.With("i", i).Warn("down")
			}
		}
		flood()
		require.Equal(t, Burst, said("msg=down"))
		l.Error("down")
		l.Warn("something else")
		require.Equal(t, Burst+1, said("msg=down"), "another level")
		require.Equal(t, 1, said("something else"))

		time.Sleep(Every)
		l.WithGroup("g").Warn("down")
		require.Equal(t, 1, said("left_out=980"))
		flood()
		require.Equal(t, Burst+2, said("msg=down"), "one per Every")

		began := time.Now()
		out.Reset()
		for time.Since(began) < time.Hour {
			l.Warn("down")
			time.Sleep(time.Second)
		}
		require.InDelta(t, 360, said("msg=down"), 1, "an hour")

		time.Sleep(time.Hour)
		out.Reset()
		flood()
		require.Equal(t, Burst, said("msg=down"), "no more, however long it was quiet")
		for range 100 {
			l.Debug("detail")
		}
		require.Equal(t, 100, said("detail"))
		for i := range 3 * most {
			l.Info(strings.Repeat("x", i))
		}
		require.LessOrEqual(t, len(l.Handler().(*handler).said.of), most)
	})
}
