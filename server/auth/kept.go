package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/freshet-dev/freshet/server/intercept"
)

// What is kept of tokens that were found to be good: the signature of one costs
// more than the rest of a call. Beyond it, any one is forgotten for a new one.
const (
	maxKept      = 8192
	maxKeptBytes = 8 << 20 // of the tokens' text; what they say takes about three times as much
)

// kept remembers tokens by digest, so that no token is in memory longer than its
// request. An entry is good until it expires, or the keys are others than those
// that it was checked with. The zero value is ready.
type kept struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]entry
	bytes   int
}

// verified is what is known of a good token.
type verified struct {
	principal intercept.Principal
	from      source
	set       *keySet
}

type entry struct {
	verified
	size int
}

func (k *kept) get(digest [sha256.Size]byte, now time.Time) (intercept.Principal, bool) {
	k.mu.RLock()
	e, ok := k.entries[digest]
	k.mu.RUnlock()
	if !ok || !e.isGood(now) {
		return intercept.Principal{}, false
	}
	return e.principal, true
}

func (e *entry) isGood(now time.Time) bool {
	return now.Before(e.principal.Expires) && e.from.current() == e.set
}

func (k *kept) put(digest [sha256.Size]byte, size int, v verified) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries == nil {
		k.entries = map[[sha256.Size]byte]entry{}
	}
	k.bytes += size - k.entries[digest].size
	k.entries[digest] = entry{v, size}
	for other, e := range k.entries { // in no order
		if len(k.entries) <= maxKept && k.bytes <= maxKeptBytes {
			return
		}
		if other != digest {
			k.bytes -= e.size
			delete(k.entries, other)
		}
	}
}
