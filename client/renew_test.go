package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// expiringFrame is ready on a stream whose token counts for so long.
func expiringFrame(r freshet.Revision, left time.Duration) string {
	return fmt.Sprintf("event: ready\nid: %s\ndata: {\"revision\":%q,\"topics\":1,\"heartbeat_ms\":3600000,\"contract\":\"c0ffee\",\"expires_ms\":%d}\n\n",
		r, r.String(), left.Milliseconds())
}

const expiredFrame = "retry: 1000\nevent: end\ndata: {\"reason\":\"expired\"}\n\n"

// renewing follows topic t on a fake clock, with a source of tokens 1, 2, 3 …, until
// the sink has been told as often as that. It returns what was told, with the time.
func renewing(t *testing.T, source func(ctx context.Context, n int) (string, error), until int, scenes ...func(*pipeEnd)) (told []string, network *pipeNet) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network = &pipeNet{scenes: scenes}
		asked := 0
		if source == nil {
			source = func(_ context.Context, n int) (string, error) { return fmt.Sprint(n), nil }
		}
		c, err := New("http://freshet.test", WithHTTPClient(&http.Client{Transport: network}), WithTokenSource(func(ctx context.Context) (string, error) {
			asked++
			return source(ctx, asked)
		}))
		require.NoError(t, err)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err = c.Stream(ctx, []string{"t"}, func(e Event) error {
			what := fmt.Sprintf("%T", e)[len("client."):]
			switch e := e.(type) {
			case Invalidate:
				what += fmt.Sprint(" ", e.Revision.Position)
			case Disconnected:
				what += fmt.Sprint(": ", e.Err)
			case RenewalFailed:
				what += fmt.Sprint(": ", e.Err)
			}
			told = append(told, fmt.Sprintf("%ds %s", int(time.Since(begin).Seconds())/10*10, what))
			if len(told) == until {
				return errEnough
			}
			return nil
		})
		require.ErrorIs(t, err, errEnough, "%q", told)
		network.playing.Wait()
		synctest.Wait()
	})
	return told, network
}

// Before the token expires there is another stream, from where the one before is; that
// one is left when the next one is ready, and not before.
func TestRenew_beforeTheTokenExpires(t *testing.T) {
	var left time.Duration
	var begin time.Time
	told, network := renewing(t, nil, 6,
		func(e *pipeEnd) {
			begin = time.Now()
			e.open()
			e.send(expiringFrame(rev(3), 100*time.Second))
			e.send(invalidateFrame(rev(4), "t"))
			e.hold()
			left = time.Since(begin)
		},
		func(e *pipeEnd) {
			time.Sleep(time.Second)
			e.open()
			e.send(expiringFrame(rev(4), 100*time.Second))
			e.send(invalidateFrame(rev(6), "t"))
			e.hold()
		},
		func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(7), 0))
			e.hold()
		})
	require.Equal(t, []string{"Connected", "Ready", "Invalidate 4", "Renewed", "Invalidate 6", "Renewed"}, words(told))
	require.Regexp(t, `^[89]0s `, told[3])
	require.Regexp(t, `^1[678]0s `, told[5])
	require.Equal(t, []string{"1", "2", "3"}, network.tokens)
	require.Equal(t, []string{"", rev(4).String(), rev(6).String()}, network.asked)
	require.GreaterOrEqual(t, left, 81*time.Second)
	require.LessOrEqual(t, left, 91*time.Second)
}

// What the next stream's catch-up says is told by the current one, once; and what that
// one tells meanwhile isn't told again.
func TestRenew_nothingIsToldTwice(t *testing.T) {
	var begin time.Time
	told, _ := renewing(t, nil, 5,
		func(e *pipeEnd) {
			begin = time.Now()
			e.open()
			e.send(expiringFrame(rev(3), 100*time.Second))
			time.Sleep(91 * time.Second)
			e.send(invalidateFrame(rev(7), "t")) // with what changed at 5
			e.hold()
		},
		func(e *pipeEnd) {
			time.Sleep(time.Until(begin.Add(90 * time.Second)))
			e.open()
			e.send(invalidateFrame(rev(5), "t"))
			e.send(expiringFrame(rev(6), 100*time.Second))
			e.send(invalidateFrame(rev(7), "t"))
			e.send(invalidateFrame(rev(8), "t"))
			e.hold()
		})
	require.Equal(t, []string{"0s Connected", "0s Ready", "90s Invalidate 7", "90s Renewed", "90s Invalidate 8"}, told)
}

// Nor when the next stream's ready is beyond what the current one says, since others
// write too, nor when that one ends before the next is ready.
func TestRenew_nothingIsToldTwiceEither(t *testing.T) {
	for name, ends := range map[string]bool{"it goes on": false, "it ends": true} {
		t.Run(name, func(t *testing.T) {
			var begin time.Time
			told, _ := renewing(t, nil, map[bool]int{false: 5, true: 7}[ends],
				func(e *pipeEnd) {
					begin = time.Now()
					e.open()
					e.send(expiringFrame(rev(3), 100*time.Second))
					time.Sleep(91 * time.Second)
					e.send(invalidateFrame(rev(5), "t"))
					if !ends {
						e.hold()
					}
				},
				func(e *pipeEnd) {
					time.Sleep(time.Until(begin.Add(90 * time.Second)))
					e.open()
					e.send(invalidateFrame(rev(5), "t"))
					if ends {
						time.Sleep(2 * time.Second)
					}
					e.send(expiringFrame(rev(9), 100*time.Second))
					e.send(invalidateFrame(rev(10), "t"))
					e.hold()
				})
			want := []string{"Connected", "Ready", "Invalidate 5", "Renewed", "Invalidate 10"}
			if ends {
				want = []string{"Connected", "Ready", "Invalidate 5", "Disconnected: the server closed the stream", "Connected", "Ready", "Invalidate 10"}
			}
			require.Equal(t, want, words(told))
		})
	}
}

// A current stream that doesn't tell it is left all the same, and its end isn't noticed
// otherwise: then the catch-up is told by the next one.
func TestRenew_currentStreamTellsNothing(t *testing.T) {
	for name, end := range map[string]func(*pipeEnd){
		"it is silent": func(e *pipeEnd) { e.hold() },
		"it expires":   func(e *pipeEnd) { time.Sleep(91 * time.Second); e.send(expiredFrame) },
		"it is cut":    func(e *pipeEnd) { time.Sleep(91 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			var begin time.Time
			told, _ := renewing(t, nil, 5,
				func(e *pipeEnd) {
					begin = time.Now()
					e.open()
					e.send(expiringFrame(rev(3), 100*time.Second))
					end(e)
				},
				func(e *pipeEnd) {
					time.Sleep(time.Until(begin.Add(90 * time.Second)))
					e.open()
					e.send(invalidateFrame(rev(5), "t"))
					e.send(expiringFrame(rev(6), 100*time.Second))
					e.send(invalidateFrame(rev(6), "t"))
					e.hold()
				})
			require.Equal(t, []string{"Connected", "Ready", "Invalidate 5", "Renewed", "Invalidate 6"}, words(told))
		})
	}
}

// words leaves the times out.
func words(told []string) (out []string) {
	for _, line := range told {
		var when, what string
		_, _ = fmt.Sscanf(line, "%s", &when)
		what = line[len(when)+1:]
		out = append(out, what)
	}
	return out
}

// A source that fails is asked again, at growing intervals, and the sink is told; the
// stream that is there goes on to its end.
func TestRenew_sourceFails(t *testing.T) {
	fails := func(works int) func(context.Context, int) (string, error) {
		return func(_ context.Context, n int) (string, error) {
			if n > 1 && n < works {
				return "", errors.New("the issuer is down")
			}
			return fmt.Sprint(n), nil
		}
	}
	first := func(e *pipeEnd) {
		e.open()
		e.send(expiringFrame(rev(3), 100*time.Second))
		time.Sleep(100 * time.Second)
		e.send(expiredFrame)
	}
	second := func(e *pipeEnd) {
		e.open()
		e.send(expiringFrame(rev(5), 0))
		e.send(invalidateFrame(rev(6), "t"))
		e.hold()
	}
	told, network := renewing(t, fails(4), 6, first, second)
	require.Equal(t, []string{"Connected", "Ready", "RenewalFailed: token: the issuer is down", "RenewalFailed: token: the issuer is down", "Renewed", "Invalidate 6"}, words(told))
	require.Equal(t, []string{"1", "4"}, network.tokens)

	told, network = renewing(t, fails(1000), 20, first, second)
	require.Equal(t, []string{"Connected", "Ready"}, words(told[:2]))
	ended := 0
	for i, line := range words(told[2:]) {
		if ended > 0 {
			require.Equal(t, "Disconnected: token: the issuer is down", line)
		} else if line == "Disconnected: the server ended the stream: the token has expired" {
			ended = i
		} else {
			require.Equal(t, "RenewalFailed: token: the issuer is down", line)
		}
	}
	require.Greater(t, ended, 2)
	require.Less(t, ended, 12)
	require.Equal(t, []string{"1"}, network.tokens)
}

// A source that keeps its token until just before the end is asked again until it has
// another one; it is told which one is stale. No stream is opened with the same.
func TestRenew_sourceKeepsItsToken(t *testing.T) {
	var begin time.Time
	stale := map[string]int{}
	told, network := renewing(t, func(ctx context.Context, n int) (string, error) {
		if n == 1 {
			begin = time.Now()
		}
		stale[StaleToken(ctx)]++
		if time.Since(begin) < 97*time.Second {
			return "first", nil
		}
		return "second", nil
	}, 3,
		func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(3), 100*time.Second))
			e.hold()
		},
		func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(3), 0))
			e.hold()
		})
	require.Equal(t, []string{"0s Connected", "0s Ready", "90s Renewed"}, told)
	require.Equal(t, []string{"first", "second"}, network.tokens)
	require.Equal(t, 1, stale[""])
	require.Greater(t, stale["first"], 2)
	require.Less(t, stale["first"], 10)
}

// A next stream that is refused costs the current one nothing.
func TestRenew_nextStreamIsRefused(t *testing.T) {
	told, _ := renewing(t, nil, 5,
		func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(3), 100*time.Second))
			e.hold()
		},
		func(e *pipeEnd) { e.fail(503, http.Header{"Retry-After": {"2"}}) },
		func(e *pipeEnd) { e.fail(403, nil) },
		func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(3), 0))
			e.hold()
		})
	require.Equal(t, []string{
		"Connected", "Ready", "RenewalFailed: the server answered 503 Service Unavailable",
		"RenewalFailed: the server answered 403 Forbidden", "Renewed",
	}, words(told))
}

// Another history, whichever stream tells it first.
func TestRenew_reset(t *testing.T) {
	other := freshet.Revision{Epoch: 9, Position: 1} // a database of before (F77)
	first := func(reset bool) func(*pipeEnd) {
		return func(e *pipeEnd) {
			e.open()
			e.send(expiringFrame(rev(3), 100*time.Second))
			if reset {
				time.Sleep(90 * time.Second) // the next one has begun
				e.send(resetFrame(other))
			}
			e.hold()
		}
	}
	second := func(e *pipeEnd) {
		e.open()
		e.send(resetFrame(other))
		e.send(expiringFrame(other, 0))
		e.send(invalidateFrame(freshet.Revision{Epoch: 9, Position: 2}, "t"))
		e.hold()
	}
	told, _ := renewing(t, nil, 5, first(false), second)
	require.Equal(t, []string{"Connected", "Ready", "Reset", "Ready", "Invalidate 2"}, words(told))

	told, network := renewing(t, nil, 5, first(true), func(e *pipeEnd) { e.hold() }, func(e *pipeEnd) {
		e.open()
		e.send(expiringFrame(other, 0))
		e.send(invalidateFrame(freshet.Revision{Epoch: 9, Position: 2}, "t"))
		e.hold()
	})
	require.Equal(t, []string{"Connected", "Ready", "Reset", "Renewed", "Invalidate 2"}, words(told))
	require.Equal(t, []string{"", rev(3).String(), other.String()}, network.asked)
}

// The current stream expires while the next one is on its way: the sink is told that
// there is none, and then that there is.
func TestRenew_nextStreamIsLate(t *testing.T) {
	for name, second := range map[string]func(*pipeEnd){
		"to open": func(e *pipeEnd) {
			time.Sleep(9 * time.Second)
			e.open()
			e.send(invalidateFrame(rev(5), "t") + expiringFrame(rev(6), 0))
			e.hold()
		},
		"to be ready": func(e *pipeEnd) {
			e.open()
			e.send(invalidateFrame(rev(5), "t"))
			time.Sleep(9 * time.Second)
			e.send(expiringFrame(rev(6), 0))
			e.hold()
		},
	} {
		t.Run(name, func(t *testing.T) {
			told, network := renewing(t, nil, 6, func(e *pipeEnd) {
				e.open()
				e.send(expiringFrame(rev(3), 10*time.Second))
				time.Sleep(10 * time.Second)
				e.send(expiredFrame)
			}, second)
			require.Equal(t, []string{
				"Connected", "Ready", "Disconnected: the server ended the stream: the token has expired",
				"Connected", "Invalidate 5", "Ready",
			}, words(told))
			require.Len(t, network.tokens, 2)
		})
	}
}

// A stream ends with its context wherever its renewal is, and leaves nothing behind.
func TestRenew_endsWithItsContext(t *testing.T) {
	for after := time.Second; after < 20*time.Second; after += 700 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			network := &pipeNet{scenes: []func(*pipeEnd){
				func(e *pipeEnd) { e.open(); e.send(expiringFrame(rev(3), 10*time.Second)); e.hold() },
				func(e *pipeEnd) {
					time.Sleep(2 * time.Second)
					e.open()
					time.Sleep(2 * time.Second)
					e.send(invalidateFrame(rev(5), "t"))
					e.send(expiringFrame(rev(6), 10*time.Second))
					e.hold()
				},
			}}
			c, err := New("http://freshet.test", WithHTTPClient(&http.Client{Transport: network}),
				WithTokenSource(func(context.Context) (string, error) { return time.Now().String(), nil }))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			require.ErrorIs(t, c.Stream(ctx, []string{"t"}, func(Event) error { return nil }), context.DeadlineExceeded)
			network.playing.Wait()
			synctest.Wait()
		})
	}
}
