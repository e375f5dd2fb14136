package intercept

import (
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
)

// F54: of topics in quarantine nothing is kept, nothing that was kept is given,
// and no query is shared. Each answer is stamped as a query of its own.
func TestReuse_F54_quarantine(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	close(q.release)
	require.Equal(t, outcome{"1", at(100).String(), cacheMiss, nil}, r.reads(t, at(100).String()))
	require.Equal(t, cacheHit, r.reads(t, at(100).String()).cache)

	r.hub.Quarantine([]freshet.Pattern{"**"})
	r.hub.Advance(at(110)) // past a commit that was lost
	require.Equal(t, outcome{"2", at(110).String(), cacheMiss, nil}, r.reads(t, at(100).String()))
	require.Equal(t, outcome{"3", at(110).String(), cacheMiss, nil}, r.reads(t, at(110).String()))
	require.Equal(t, "4", r.reads(t, "").body, "strong")

	// It ends with a change of all its topics, so what was kept before doesn't do.
	r.hub.Publish(freshet.Commit{Revision: at(120), Floors: []freshet.Pattern{"**"}})
	r.hub.Quarantine(nil)
	require.Equal(t, outcome{"5", at(120).String(), cacheMiss, nil}, r.reads(t, at(120).String()))
	require.Equal(t, outcome{"5", at(120).String(), cacheHit, nil}, r.reads(t, at(120).String()))
	kept, _ := i.flights.cache.size()
	require.Equal(t, 1, kept)
}

// Reads that come together don't share a query, and one that was on its way when
// the quarantine began isn't kept.
func TestReuse_F54_quarantineIsNotShared(t *testing.T) {
	r, i := newReuseRig(t, nil)
	q := r.queries()
	before := r.read(t.Context(), "", at(100).String())
	waitFor(t, q.began, "the query")
	r.hub.Quarantine([]freshet.Pattern{"**"})
	one, other := r.read(t.Context(), "", at(100).String()), r.read(t.Context(), "", "")
	waitFor(t, q.began, "a query of its own")
	waitFor(t, q.began, "another")
	close(q.release)
	for _, o := range []<-chan outcome{before, one, other} {
		require.Equal(t, cacheMiss, waitFor(t, o, "an answer").cache)
	}
	kept, _ := i.flights.cache.size()
	require.Zero(t, kept)
}

// A GET of topics in quarantine has no entity tag, is no 304 and isn't stored.
func TestConditional_F54_quarantine(t *testing.T) {
	r, _ := newReuseRig(t, nil)
	close(r.queries().release)
	client := messagesv1connect.NewMessageServiceClient(r.http, r.url, connect.WithHTTPGet())
	get := func(tag string) (*connect.Response[messagesv1.GetMessageResponse], error) {
		req := getRequest(at(100).String())
		req.Header().Set("If-None-Match", tag)
		return client.GetMessage(t.Context(), req)
	}
	resp, err := get("")
	require.NoError(t, err)
	tag := resp.Header().Get("ETag")
	require.NotEmpty(t, tag)
	_, err = get(tag)
	require.True(t, connect.IsNotModifiedError(err))

	r.hub.Quarantine([]freshet.Pattern{"**"})
	resp, err = get("*")
	require.NoError(t, err)
	require.Empty(t, resp.Header().Get("ETag"))
	require.Equal(t, "no-store", resp.Header().Get("Cache-Control"))
}

// busyHub has a commit come right after each look at what a read depends on.
type busyHub struct {
	*hub.Hub
	next uint64
}

func (h *busyHub) Floor(topics []string) freshet.Revision {
	defer func() {
		h.next++
		h.Publish(change(h.next))
	}()
	return h.Hub.Floor(topics)
}

// The frontier is read before the topics. In the other order the commit that
// comes in between would be in the stamp and not in the answer.
func TestReuse_frontierBeforeTopics(t *testing.T) {
	node := &busyHub{}
	r, _ := newReuseRig(t, func(c *Config) {
		node.Hub, node.next = c.Hub.(*hub.Hub), 100
		c.Hub = node
	})
	close(r.queries().release)
	// The query begins after the look, and so after the commit that came then.
	require.Equal(t, outcome{"1", at(101).String(), cacheMiss, nil}, r.reads(t, at(100).String()))
	require.Equal(t, outcome{"1", at(101).String(), cacheHit, nil}, r.reads(t, at(100).String()))
}
