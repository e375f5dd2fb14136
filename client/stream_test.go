package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

func TestStream_tellsEveryKindOfEvent(t *testing.T) {
	f := newFakeServer(t, func(c *wire) {
		c.send("retry: 7\n\n", ": a comment\n\n", "event: tomorrow\ndata: {}\n\n",
			invalidateFrame(rev(1), "t"), readyFrame(rev(2), 15*time.Second), frontierFrame(rev(3), 12),
			"event: reset\nid: "+rev(4).String()+"\ndata: {\"revision\":\""+rev(4).String()+"\",\"reason\":\"epoch\"}\n\n")
		c.hold()
	})
	events := collect(t, quick(t, f), last[Reset])
	require.Equal(t, []Event{
		Connected{},
		Invalidate{Revision: rev(1), Topics: []string{"t"}},
		Ready{Revision: rev(2), Topics: 1, Heartbeat: 15 * time.Second, Contract: "c0ffee"},
		Frontier{Revision: rev(3), Lag: 12 * time.Millisecond},
		Reset{Revision: rev(4), Reason: "epoch"},
	}, events)
}

// r3labs ends with nil on a clean EOF and stays away; we come back, from where
// we were.
func TestStream_cleanEOF(t *testing.T) {
	f := newFakeServer(t,
		func(c *wire) { c.send(readyFrame(rev(1), time.Minute), invalidateFrame(rev(5), "t")) },
		func(c *wire) { c.send(readyFrame(rev(6), time.Minute)); c.hold() })
	events := collect(t, quick(t, f), func(e []Event) bool { return len(only[Ready](e)) == 2 })

	ends := only[Disconnected](events)
	require.Len(t, ends, 1)
	require.ErrorIs(t, ends[0].Err, ErrClosed)
	require.Empty(t, f.call(0).header.Get("Last-Event-ID"))
	require.Equal(t, rev(5).String(), f.call(1).header.Get("Last-Event-ID"))
}

// A frame cut in the middle must not move the position, even though its id
// arrived whole, and must not be told. r3labs would tell it.
func TestStream_resetInsideFrame(t *testing.T) {
	whole := invalidateFrame(rev(9), "t")
	for _, end := range []string{"cut", "clean"} {
		for n := 1; n < len(whole); n++ { // every byte; n = len-1 lacks only the blank line
			if end == "cut" && n%8 != 0 {
				continue // it is the same code, and a slower server
			}
			f := newFakeServer(t,
				func(c *wire) {
					c.send(readyFrame(rev(1), time.Minute), whole[:n])
					if end == "cut" {
						c.cut()
					}
				},
				func(c *wire) { c.send(frontierFrame(rev(2), 0)); c.hold() })
			events := collect(t, quick(t, f), last[Frontier])
			require.Empty(t, only[Invalidate](events), "%s after %d bytes", end, n)
			require.Equal(t, rev(1).String(), f.call(1).header.Get("Last-Event-ID"), "%s after %d bytes", end, n)
			err := only[Disconnected](events)[0].Err
			if end == "cut" {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			} else {
				require.ErrorIs(t, err, ErrClosed)
			}
			f.Client().CloseIdleConnections()
		}
	}
}

func TestStream_refusedForGood(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 413} {
		f := newFakeServer(t, func(c *wire) { c.fail(status, `{"code":"some_code","message":"why"}`) })
		var told []Event
		err := quick(t, f).Stream(t.Context(), []string{"t"}, func(e Event) error {
			told = append(told, e)
			return nil
		})
		var refused *StatusError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, StatusError{Status: status, Code: "some_code", Message: "why"}, *refused)
		require.Empty(t, told)
	}
}

// A refusal for some of the topics says which: a caller that leaves them out can follow
// the others. What isn't a topic isn't taken for one, however many are named.
func TestStream_refusedForTopics(t *testing.T) {
	named := []string{"t/\x1b[2J"}
	for i := range 2000 {
		named = append(named, fmt.Sprintf("rooms/00%d", i))
	}
	body, err := json.Marshal(map[string]any{"code": "invalid_argument", "message": "why", "topics": named})
	require.NoError(t, err)
	f := newFakeServer(t,
		func(c *wire) { c.fail(400, string(body)) },
		func(c *wire) { c.send(readyFrame(rev(1), time.Minute)) })
	topics := append(slices.Clone(named[1:]), "rooms/7")
	follow := func() error {
		return quick(t, f).Stream(t.Context(), topics, func(Event) error { return errEnough })
	}
	var refused *StatusError
	require.ErrorAs(t, follow(), &refused)
	require.Equal(t, named[1:], refused.Topics)
	topics = slices.DeleteFunc(topics, func(topic string) bool { return slices.Contains(refused.Topics, topic) })
	require.Equal(t, []string{"rooms/7"}, topics)
	require.ErrorIs(t, follow(), errEnough)
	require.Equal(t, []string{"rooms/7"}, f.call(1).query["topic"])
}

func TestStream_notAStream(t *testing.T) {
	f := newFakeServer(t, func(c *wire) { c.fail(200, "<html>", "Content-Type", "text/html; charset=utf-8") })
	err := quick(t, f).Stream(t.Context(), []string{"t"}, func(Event) error { return nil })
	require.ErrorContains(t, err, `"text/html" is not text/event-stream`)
}

// A split list arrives whole, and only its last frame moves the position.
func TestStream_splitList(t *testing.T) {
	part := func(topic string) string {
		return fmt.Sprintf("event: invalidate\ndata: {\"revision\":\"\",\"topics\":[%q]}\n\n", topic)
	}
	f := newFakeServer(t,
		func(c *wire) {
			c.send(readyFrame(rev(1), time.Minute), "id: "+rev(7).String()+"\n"+part("a"), part("b"))
		}, // the last one never comes
		func(c *wire) {
			c.send(part("a"), part("b"), invalidateFrame(rev(7), "t"), readyFrame(rev(7), time.Minute))
			c.hold()
		})
	var events []Event
	err := quick(t, f).Stream(t.Context(), []string{"t", "a", "b", "t"}, func(e Event) error {
		events = append(events, e)
		if len(only[Ready](events)) == 2 {
			return errEnough
		}
		return nil
	})
	require.ErrorIs(t, err, errEnough)
	require.Equal(t, rev(1).String(), f.call(1).header.Get("Last-Event-ID"))
	require.Equal(t, []Invalidate{{Revision: rev(7), Topics: []string{"a", "b", "t"}}}, only[Invalidate](events))
	require.Equal(t, []string{"a", "b", "t"}, f.call(0).query["topic"])
}

func TestStream_longListThatNeverEnds(t *testing.T) {
	f := newFakeServer(t, func(c *wire) {
		c.send("event: invalidate\ndata: {\"topics\":[\"a\",\"b\"]}\n\n")
		c.hold()
	})
	events := collect(t, quick(t, f), last[Disconnected])
	require.ErrorContains(t, only[Disconnected](events)[0].Err, "a split list names 2 topics, subscribed are 1")
}

// A frame may have 32 KiB; r3labs' scanner must not be the limit.
func TestStream_largestFrame(t *testing.T) {
	var topics []string
	for len(topics) < 60 {
		topics = append(topics, fmt.Sprintf("%0511d%d", 0, len(topics)%10))
	}
	f := newFakeServer(t, func(c *wire) {
		c.send(invalidateFrame(rev(1), topics...))
		c.hold()
	})
	require.Greater(t, len(invalidateFrame(rev(1), topics...)), 30<<10)
	events := collect(t, quick(t, f), last[Invalidate])
	require.Equal(t, topics, only[Invalidate](events)[0].Topics)
}

// An id that is no revision moves nothing, whatever its size.
func TestStream_strangeIDs(t *testing.T) {
	for _, id := range []string{strings.Repeat("9", 60<<10), "4", "0000000A-0000000000000001", rev(3).String() + "0"} {
		f := newFakeServer(t,
			func(c *wire) {
				c.send(readyFrame(rev(1), time.Minute), "event: frontier\nid: "+id+"\ndata: {\"revision\":\""+rev(1).String()+"\"}\n\n")
			},
			func(c *wire) { c.send(frontierFrame(rev(2), 0)); c.hold() })
		events := collect(t, quick(t, f), func(e []Event) bool { return len(only[Frontier](e)) == 2 })
		require.ErrorIs(t, only[Disconnected](events)[0].Err, ErrClosed)
		require.Equal(t, rev(1).String(), f.call(1).header.Get("Last-Event-ID"))
	}
}

func TestStream_nonsense(t *testing.T) {
	for _, bad := range []string{
		"event: invalidate\ndata: {\n\n",
		"event: invalidate\ndata: {\"revision\":\"7\",\"topics\":[\"t\"]}\n\n",
		"event: invalidate\ndata: {\"revision\":\"" + rev(7).String() + "\"}\n\n",
		"event: invalidate\ndata: {\"revision\":\"" + rev(7).String() + "\",\"topics\":[\"\\u001b[2J\"]}\n\n",
		"event: ready\ndata: {\"topics\":1}\n\n",
		"event: frontier\ndata: []\n\n",
		"event: frontier\ndata: " + strings.Repeat("x", maxFrame) + "\n\n",
	} {
		f := newFakeServer(t, func(c *wire) { c.send(bad); c.hold() })
		events := collect(t, quick(t, f), last[Disconnected])
		require.Len(t, events, 2, "%.80s", bad)
		require.Error(t, only[Disconnected](events)[0].Err)
	}
}

// A reset continues in the new history, also when the old one sorts higher.
func TestStream_resetReplacesPosition(t *testing.T) {
	lower := freshet.Revision{Epoch: 9, Position: 1}
	f := newFakeServer(t,
		func(c *wire) { c.send(readyFrame(rev(5), time.Minute)) },
		func(c *wire) {
			c.send(fmt.Sprintf("event: reset\nid: %s\ndata: {\"revision\":%q,\"reason\":\"epoch\"}\n\n", lower, lower.String()))
		},
		func(c *wire) { c.send(frontierFrame(lower, 0)); c.hold() })
	collect(t, quick(t, f), last[Frontier])
	require.Equal(t, rev(5).String(), f.call(1).header.Get("Last-Event-ID"))
	require.Equal(t, lower.String(), f.call(2).header.Get("Last-Event-ID"))
}

func TestStream_request(t *testing.T) {
	f := newFakeServer(t,
		func(c *wire) { c.send(readyFrame(rev(5), time.Minute)) },
		func(c *wire) { c.send(frontierFrame(rev(5), 0)); c.hold() })
	tokens := []string{"first", "second"}
	c := quick(t, f, WithHeader("X-Tenant", "acme"), WithTokenSource(func(context.Context) (string, error) {
		token := tokens[0]
		tokens = tokens[1:]
		return token, nil
	}))
	collect(t, c, last[Frontier], WithSince(rev(3)), WithThrottle(1500*time.Millisecond))

	first, second := f.call(0), f.call(1)
	require.Equal(t, map[string][]string{"topic": {"t"}, "since": {rev(3).String()}, "throttle": {"1500"}}, first.query)
	require.Equal(t, "text/event-stream", first.header.Get("Accept"))
	require.Equal(t, "identity", first.header.Get("Accept-Encoding"))
	require.Equal(t, "acme", first.header.Get("X-Tenant"))
	require.Equal(t, "Bearer first", first.header.Get("Authorization"))

	require.Equal(t, map[string][]string{"topic": {"t"}, "throttle": {"1500"}}, second.query)
	require.Equal(t, rev(5).String(), second.header.Get("Last-Event-ID"))
	require.Equal(t, "Bearer second", second.header.Get("Authorization"))
}

// A list too long for a URL, and a since per topic, are POSTed; after the first
// id, that one revision stands for all.
func TestStream_post(t *testing.T) {
	long := make([]string, 1000)
	for i := range long {
		long[i] = fmt.Sprintf("conversations/%04d/messages", i)
	}
	f := newFakeServer(t,
		func(c *wire) { c.send(readyFrame(rev(5), time.Minute)) },
		func(c *wire) { c.send(frontierFrame(rev(5), 0)); c.hold() })
	err := quick(t, f).Stream(t.Context(), long, func(e Event) error {
		if _, ok := e.(Frontier); ok {
			return errEnough
		}
		return nil
	}, WithSince(rev(1)), WithSinceByTopic(map[string]freshet.Revision{long[3]: rev(3), long[4]: {}}), WithThrottle(0))
	require.ErrorIs(t, err, errEnough)

	type body struct {
		Topics       []string          `json:"topics"`
		Since        string            `json:"since"`
		SinceByTopic map[string]string `json:"since_by_topic"`
	}
	for i, want := range []body{
		{Topics: long, Since: rev(1).String(), SinceByTopic: map[string]string{long[3]: rev(3).String()}},
		{Topics: long, Since: rev(5).String()},
	} {
		got := f.call(i)
		require.Equal(t, http.MethodPost, got.method)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
		require.Equal(t, map[string][]string{"throttle": {"0"}}, got.query)
		var b body
		require.NoError(t, json.Unmarshal([]byte(got.body), &b))
		require.Equal(t, want, b)
	}
}

// F88: before the first ready an id says nothing of a topic without a since, so
// a reconnect asks as the first attempt did; afterwards it says all.
func TestStream_F88_cutBeforeReady(t *testing.T) {
	byTopic := map[string]freshet.Revision{"t": rev(3)}
	for _, opts := range [][]StreamOption{nil, {WithSince(rev(2))}, {WithSinceByTopic(byTopic)}} {
		f := newFakeServer(t,
			func(c *wire) { c.send(invalidateFrame(rev(5), "t")) },
			func(c *wire) { c.send(readyFrame(rev(6), time.Minute)) },
			func(c *wire) { c.send(frontierFrame(rev(7), 0)); c.hold() })
		collect(t, quick(t, f), last[Frontier], opts...)
		first, second, third := f.call(0), f.call(1), f.call(2)
		require.Equal(t, first.query, second.query)
		require.Equal(t, first.body, second.body)
		require.Empty(t, second.header.Get("Last-Event-ID"))
		require.Equal(t, rev(6).String(), third.header.Get("Last-Event-ID"))
	}
}

func TestStream_ends(t *testing.T) {
	f := newFakeServer(t, func(c *wire) { c.send(readyFrame(rev(1), time.Minute)); c.hold() })
	c := quick(t, f)

	ctx, cancel := context.WithCancel(t.Context())
	err := c.Stream(ctx, []string{"t"}, func(e Event) error {
		if _, ok := e.(Ready); ok {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)

	own := errors.New("mine")
	for _, at := range []Event{Connected{}, Ready{}} {
		require.Equal(t, own, c.Stream(t.Context(), []string{"t"}, func(e Event) error {
			if fmt.Sprintf("%T", e) == fmt.Sprintf("%T", at) {
				return own
			}
			return nil
		}), "as it is, not wrapped")
	}

	require.Error(t, c.Stream(t.Context(), nil, nil))
	var bad *freshet.TopicError
	require.ErrorAs(t, c.Stream(t.Context(), []string{"a\nb"}, nil), &bad)
}
