package relay

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freshet-dev/freshet"
	relayv1 "github.com/freshet-dev/freshet/gen/freshet/relay/v1"
	"github.com/freshet-dev/freshet/store/wal"
)

// Follower lets the model test drive a follower.
type Follower struct{ f follower }

// NewFollower returns one that moves to.
func NewFollower(to interface {
	Place() (at freshet.Revision, incarnation uint64, begun bool)
	Apply(wal.Told) bool
},
) *Follower {
	return &Follower{follower{target: to}}
}

func (f *Follower) Frame(now time.Time, data []byte) {
	fr := new(relayv1.Frame)
	if understand(data, fr) == nil {
		f.f.frame(now, fr)
	}
}

// Apply leaves it to the target alone whether a frame fits.
func (f *Follower) Apply(data []byte) {
	fr := new(relayv1.Frame)
	if understand(data, fr) == nil {
		f.f.apply(fr, false)
	}
}

func (f *Follower) State(data []byte) {
	st := new(relayv1.State)
	if understand(data, st) == nil {
		f.f.state(st)
	}
}

func (f *Follower) Due(now time.Time) *relayv1.StateRequest { return f.f.due(now) }

func (f *Follower) Gaps() uint64 { return f.f.gaps }

func (f *Follower) Raised() uint64 { return f.f.raised }

func (p *Publisher) Turn(on bool, limit int) { p.turn(on, limit) }

func (p *Publisher) Take(beat bool) []*relayv1.Frame { return p.take(beat) }

func (p *Publisher) Answer(state State, req *relayv1.StateRequest, number func() uint64) []*relayv1.State {
	return p.answer(state, req, number)
}

// Most bounds what may wait to be sent.
func (p *Publisher) Most(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = bytes
}

// Through has the connection to NATS made by d.
func (c *Config) Through(d nats.CustomDialer) { c.more = append(c.more, nats.SetCustomDialer(d)) }

// TagBytes is what a sealed message ends with.
const TagBytes = tagBytes

// Seals seals without a feed.
type Seals struct{ s seals }

func NewSeals(secret func(freshet.Epoch) []byte, scope string) *Seals {
	return &Seals{seals{secret: secret, scope: scope}}
}

func (s *Seals) Seal(epoch freshet.Epoch, incarnation uint64, k byte, data []byte) []byte {
	return s.s.seal(history{epoch, incarnation}, kind(k), data)
}

func (s *Seals) Open(epoch freshet.Epoch, incarnation uint64, k byte, data []byte) ([]byte, bool) {
	return s.s.open(history{epoch, incarnation}, kind(k), data)
}

// Explain says which fault an error of NATS' client is.
func Explain(err error) Fault { return explain(err).Fault }
