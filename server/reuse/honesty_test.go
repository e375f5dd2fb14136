package reuse

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// G6 under load: whatever is hit, joined or asked anew, an answer holds every
// change up to its stamp, and the stamp is at least what was asked for.
func TestReads_stampsAreHonestUnderLoad(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ReadInterval = time.Millisecond })
	var stored atomic.Uint64 // the last change in the database
	var mu sync.Mutex
	var changes []uint64 // told so far, ascending
	stored.Store(100)
	r.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		body := strconv.FormatUint(stored.Load(), 10)
		return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Body: body}}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	pace := time.NewTicker(50 * time.Microsecond)
	defer pace.Stop()
	workers.Go(func() {
		for position := uint64(101); ctx.Err() == nil; position++ {
			if position%3 != 0 {
				r.hub.Advance(at(position))
				continue
			}
			stored.Store(position) // visible before it is told
			mu.Lock()
			changes = append(changes, position)
			mu.Unlock()
			r.hub.Publish(change(position))
			<-pace.C
		}
	})
	lastChange := func(rev freshet.Revision) uint64 {
		mu.Lock()
		defer mu.Unlock()
		last := uint64(100)
		for _, c := range changes {
			if c > rev.Position {
				break
			}
			last = c
		}
		return last
	}
	problems := make(chan string, 8*150)
	var readers sync.WaitGroup
	var hits, joined atomic.Int64
	for n := range 8 {
		readers.Go(func() {
			for i := range 150 {
				asked := freshet.Revision{}
				if (n+i)%4 != 0 {
					asked = r.hub.Frontier()
				}
				o := <-r.read(ctx, "", asked)
				rev := o.stamp
				body, _ := strconv.ParseUint(o.body, 10, 64)
				switch {
				case o.err != nil || rev.IsZero():
					problems <- fmt.Sprint(o.err, rev)
				case rev.Less(asked):
					problems <- fmt.Sprintf("stamped %v below %v", rev, asked)
				case body < lastChange(rev):
					problems <- fmt.Sprintf("stamped %v, but holds %d instead of %d (%s)", rev, body, lastChange(rev), o.from)
				}
				switch o.from {
				case Hit:
					hits.Add(1)
				case Joined:
					joined.Add(1)
				}
			}
		})
	}
	readers.Wait()
	cancel()
	workers.Wait()
	require.Empty(t, problems)
	require.Positive(t, hits.Load()+joined.Load(), "the test has tested nothing")
}
