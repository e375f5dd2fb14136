package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/freshet-dev/freshet"
)

// kind is what a message is, so that none is taken for another.
type kind byte

const (
	kindFrame   kind = 1
	kindRequest kind = 2
	kindState   kind = 3
)

// tagBytes is how much of its MAC a message ends with: 128 bits of HMAC-SHA-256, as
// RFC 2104 (section 5) allows.
const tagBytes = 16

// seals puts MACs to messages, and checks them. The key is what those know who may read
// the epoch's row in the database, and nobody else: whoever can publish to the subjects,
// and no more, can't have a follower pass over a change. Whoever replays what was told
// tells facts.
//
// Its methods are safe for concurrent use.
type seals struct {
	secret func(freshet.Epoch) []byte
	scope  string // contracts, say, have different topics: what is true for one isn't all for another

	mu  sync.Mutex // guards what follows
	of  history
	mac hash.Hash // nil: there is no key
}

// seal returns data with its tag, in place if there is room; nil: there is no key now.
func (s *seals) seal(h history, k kind, data []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sum(h, k, data) {
		return nil
	}
	var sum [sha256.Size]byte
	return append(data, s.mac.Sum(sum[:0])[:tagBytes]...)
}

// open returns what was sealed; ok is false if it wasn't by one of us, in this history.
func (s *seals) open(h history, k kind, sealed []byte) (data []byte, ok bool) {
	n := len(sealed) - tagBytes
	if n < 0 {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sum(h, k, sealed[:n]) {
		return nil, false
	}
	var sum [sha256.Size]byte
	return sealed[:n], hmac.Equal(s.mac.Sum(sum[:0])[:tagBytes], sealed[n:])
}

// sum leaves the MAC of data in mac. The caller holds mu.
func (s *seals) sum(h history, k kind, data []byte) bool {
	if s.mac == nil || s.of != h {
		secret := s.secret(h.epoch)
		if len(secret) == 0 {
			return false
		}
		derive := hmac.New(sha256.New, secret)
		_, _ = derive.Write([]byte("freshet relay " + s.scope)) // never fails
		s.of, s.mac = h, hmac.New(sha256.New, derive.Sum(nil))
	}
	s.mac.Reset()
	_, _ = s.mac.Write([]byte{byte(k)})
	_, _ = s.mac.Write(data)
	return true
}
