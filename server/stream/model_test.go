package stream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// This model drives a hub and real sessions with random commits, moves of the
// frontier, gaps, epochs, quarantines with commits that are lost, subscriptions, pauses of the reader and of the clock,
// and checks what leaves against the true history: the frame rule, the order of
// the first frames, and that everybody ends current (F15).

var modelTopics = []string{"a", "b", "c"}

type streamModel struct {
	server    *Server
	hub       *hub.Hub
	epoch     freshet.Epoch
	position  uint64
	history   []freshet.Commit
	serving   bool
	held      string // the topic in quarantine
	followers []*modelReader

	mu sync.Mutex // guards history and epoch, which the sessions' goroutines read
}

// modelReader is a client: an encoder whose reads can be held up, and that
// judges each frame by the true history.
type modelReader struct {
	model  *streamModel
	topics []string
	cancel context.CancelFunc
	done   chan error

	gate atomic.Pointer[chan struct{}] // nil: reads freely; else until it is closed

	// Everything below is written by the session's goroutine and read after
	// synctest.Wait.
	broken string
	phase  int // 0 catch-up, 1 live
	epoch  freshet.Epoch
	told   map[string]uint64
	id     freshet.Revision
	due    bool // must begin with reset
}

// blocked reports whether the next frame would wait.
func (r *modelReader) blocked() bool { return r.gate.Load() != nil }

func (r *modelReader) breach(text string) error {
	if r.broken == "" {
		r.broken = text
	}
	return nil
}

func (r *modelReader) block() {
	if gate := r.gate.Load(); gate != nil {
		<-*gate
	}
}

// frame checks that a frame with this id may leave now.
func (r *modelReader) frame(kind string, id freshet.Revision) error {
	r.block()
	r.model.mu.Lock()
	defer r.model.mu.Unlock()
	if id.Less(r.id) {
		return r.breach(kind + ": ids go back")
	}
	r.id = id
	if id.Epoch != r.epoch {
		return r.breach(kind + ": another epoch without a reset")
	}
	if id.Epoch != r.model.epoch {
		return nil // the rest of an ended epoch, of which the model forgot the history
	}
	for _, topic := range r.topics {
		for _, c := range r.model.history {
			p := c.Revision.Position
			if p > r.told[topic] && p <= id.Position && slices.Contains(c.Topics, topic) {
				return r.breach(kind + ": leaves before a change of " + topic)
			}
		}
		r.told[topic] = max(r.told[topic], id.Position)
	}
	return nil
}

func (r *modelReader) invalidate(rev freshet.Revision, topics []string, partial bool) error {
	for _, topic := range topics {
		if !slices.Contains(r.topics, topic) {
			return r.breach("told of a foreign topic")
		}
		r.told[topic] = max(r.told[topic], rev.Position)
	}
	if partial {
		r.block()
		return nil
	}
	return r.frame("invalidate", rev)
}

func (r *modelReader) ready(rev freshet.Revision, topics int, expires time.Duration) error {
	if r.phase != 0 || r.due {
		return r.breach("ready twice, or before reset")
	}
	r.phase = 1
	if topics != len(r.topics) {
		return r.breach("ready counts wrongly")
	}
	return r.frame("ready", rev)
}

func (r *modelReader) reset(rev freshet.Revision) error {
	if rev.Epoch == r.epoch && !r.due {
		return r.breach("a needless reset")
	}
	r.due, r.epoch, r.id = false, rev.Epoch, freshet.Revision{}
	for _, topic := range r.topics {
		r.told[topic] = rev.Position
	}
	return r.frame("reset", rev)
}

func (r *modelReader) frontier(rev freshet.Revision, _ time.Duration) error {
	if r.phase == 0 {
		return r.breach("frontier before ready")
	}
	return r.frame("frontier", rev)
}

func (r *modelReader) goodbye(rev freshet.Revision, lag time.Duration) error {
	return r.frontier(rev, lag)
}

func (r *modelReader) end(*ending) error { return r.breach("nobody's grant ends here") }

func TestStream_model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// rapid fails by a panic, which must leave the bubble first.
		var failure any
		synctest.Test(t, func(*testing.T) {
			m := &streamModel{}
			defer m.end()
			defer func() { failure = recover() }()
			m.run(rt)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

// end stops every session, also of a run that failed.
func (m *streamModel) end() {
	for _, f := range m.followers {
		f.release()
		f.cancel()
		<-f.done
	}
}

func (m *streamModel) run(t *rapid.T) {
	h := hub.New(hub.Config{MaxTopics: rapid.IntRange(1, 4).Draw(t, "max topics")})
	server, err := New(Config{Hub: h, Heartbeat: 15 * time.Second})
	require.NoError(t, err)
	m.server, m.hub, m.epoch, m.position, m.serving = server, h, 1, 100, true
	h.Begin(m.rev())
	h.Serve(m.rev())
	t.Repeat(map[string]func(*rapid.T){
		"":          m.check,
		"write":     m.write,
		"write 2":   m.write,
		"advance":   func(*rapid.T) { m.position++; h.Advance(m.rev()) },
		"gap":       m.gap,
		"hold back": m.quarantine,
		"lose":      m.lose,
		"let go":    m.letGo,
		"epoch":     m.newEpoch,
		"serve":     func(*rapid.T) { h.Serve(m.rev()); m.serving = true },
		"subscribe": m.subscribe,
		"let time":  m.letTime,
		"hold":      m.hold,
		"release":   func(t *rapid.T) { m.one(t).release() },
		"leave":     m.leave,
	})
	// Once writes stop, everybody is current at the latest with a heartbeat.
	h.Serve(m.rev())
	for _, f := range m.followers {
		f.release()
	}
	pass(16 * time.Second)
	m.check(t)
	for _, f := range m.followers {
		require.Equal(t, m.rev(), f.id)
	}
	for len(m.followers) > 0 {
		m.stop(m.followers[0])
	}
	require.Zero(t, h.Stats().Subscriptions)
}

func (m *streamModel) rev() freshet.Revision {
	return freshet.Revision{Epoch: m.epoch, Position: m.position}
}

func (m *streamModel) write(t *rapid.T) {
	m.position += rapid.Uint64Range(1, 5).Draw(t, "step")
	c := freshet.Commit{
		Revision: m.rev(),
		Topics:   rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "x", "y"}), 1, 3, rapid.ID).Draw(t, "topics"),
	}
	m.append(c)
	m.hub.Publish(c)
}

func (m *streamModel) append(c freshet.Commit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history = append(m.history, c)
}

// quarantine: from now on commits of one topic may be lost.
func (m *streamModel) quarantine(t *rapid.T) {
	if m.held != "" || !m.serving {
		t.Skip("held already, or nothing is told")
	}
	m.held = rapid.SampledFrom(modelTopics).Draw(t, "held")
	m.hub.Quarantine([]freshet.Pattern{freshet.Pattern(m.held)})
}

// lose has a commit that the hub never sees; the frontier passes it.
func (m *streamModel) lose(t *rapid.T) {
	if m.held == "" || !m.serving {
		t.Skip("nothing is held")
	}
	m.position += rapid.Uint64Range(1, 5).Draw(t, "step")
	m.append(freshet.Commit{Revision: m.rev(), Topics: []string{m.held}})
	m.hub.Advance(m.rev())
}

func (m *streamModel) letGo(t *rapid.T) {
	if m.held == "" || !m.serving {
		t.Skip("nothing is held")
	}
	m.position++
	m.hub.Publish(freshet.Commit{Revision: m.rev(), Floors: []freshet.Pattern{freshet.Pattern(m.held)}})
	m.hub.Quarantine(nil)
	m.held = ""
}

// gap: some commits that the hub never sees.
func (m *streamModel) gap(t *rapid.T) {
	for range rapid.IntRange(0, 2).Draw(t, "commits lost") {
		m.position += 3
		m.append(freshet.Commit{Revision: m.rev(), Topics: []string{rapid.SampledFrom(modelTopics).Draw(t, "topic")}})
	}
	m.hub.Begin(m.rev())
	m.serving = false
}

func (m *streamModel) newEpoch(t *rapid.T) {
	synctest.Wait() // what is on its way belongs to the history that we forget
	m.position = rapid.Uint64Range(1, 200).Draw(t, "position")
	m.mu.Lock()
	m.epoch++
	m.history = nil
	m.mu.Unlock()
	m.hub.Begin(m.rev())
	m.serving = false
}

func (m *streamModel) subscribe(t *rapid.T) {
	r := &modelReader{
		model: m, epoch: m.epoch, told: map[string]uint64{}, done: make(chan error, 1),
		topics: rapid.SliceOfNDistinct(rapid.SampledFrom(modelTopics), 1, 3, rapid.ID).Draw(t, "topics"),
	}
	req := &request{
		topics:   r.topics,
		throttle: rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond, 10 * time.Second}).Draw(t, "throttle"),
	}
	start := m.position
	switch rapid.IntRange(0, 4).Draw(t, "since") {
	case 0:
		req.since.All = freshet.Revision{Epoch: m.epoch + 1, Position: 3}
		r.due = true
	case 1:
		req.since.Reset, r.due = true, true
	case 2, 3:
		start = rapid.Uint64Range(1, m.position).Draw(t, "position")
		req.since.All = freshet.Revision{Epoch: m.epoch, Position: start}
	}
	for _, topic := range r.topics {
		r.told[topic] = start
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	session, refused := m.server.start(ctx, req)
	if !m.serving {
		require.Equal(t, 503, refused.status)
		cancel()
		return
	}
	require.Nil(t, refused)
	m.followers = append(m.followers, r)
	pumped := rapid.Bool().Draw(t, "pumped")
	go func() {
		if pumped {
			r.done <- pumpTo(ctx, session, r)
			return
		}
		err := session.run(ctx, r)
		session.close() // before done: run looks at the hub after it
		r.done <- err
	}()
}

func (m *streamModel) one(t *rapid.T) *modelReader {
	if len(m.followers) == 0 {
		t.Skip("nobody follows")
	}
	return rapid.SampledFrom(m.followers).Draw(t, "follower")
}

func (m *streamModel) leave(t *rapid.T) {
	m.stop(m.one(t))
}

func (m *streamModel) stop(r *modelReader) {
	r.release()
	r.cancel()
	<-r.done
	m.followers = slices.DeleteFunc(m.followers, func(o *modelReader) bool { return o == r })
}

// hold makes the reader stop reading: its next frame blocks.
func (m *streamModel) hold(t *rapid.T) {
	r := m.one(t)
	synctest.Wait()
	if r.gate.Load() == nil {
		gate := make(chan struct{})
		r.gate.Store(&gate)
	}
}

func (r *modelReader) release() {
	synctest.Wait()
	if gate := r.gate.Swap(nil); gate != nil {
		close(*gate)
		synctest.Wait()
	}
}

func (m *streamModel) letTime(t *rapid.T) {
	pass(rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second, 20 * time.Second}).Draw(t, "pass"))
}

func (m *streamModel) check(t *rapid.T) {
	synctest.Wait()
	for _, r := range m.followers {
		require.Empty(t, r.broken)
		select {
		case err := <-r.done:
			require.FailNow(t, "a session ended", "%v", err)
		default:
		}
	}
}
