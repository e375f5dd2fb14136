package grants

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// keptBytes bounds what is kept of callers: at some 700 bytes for a caller with a
// few patterns, 40,000 of them.
const keptBytes = 32 << 20

// What is kept costs in memory beyond its texts, about.
const (
	mayOverhead   = 400
	boundOverhead = 48
	valueOverhead = 72
)

// kept is what callers may, the least recently asked going first, bounded in bytes.
type kept struct {
	maxBytes int

	mu    sync.Mutex // guards the fields below
	bytes int
	order *list.List // of *known, the most recently used first
	by    map[[sha256.Size]byte]*list.Element
}

type known struct {
	digest [sha256.Size]byte
	may    *may
}

func newKept(maxBytes int) *kept {
	return &kept{maxBytes: maxBytes, order: list.New(), by: map[[sha256.Size]byte]*list.Element{}}
}

// get returns nil if nothing is kept.
func (k *kept) get(digest [sha256.Size]byte) *may {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.by[digest]
	if !ok {
		return nil
	}
	k.order.MoveToFront(e)
	return e.Value.(*known).may
}

func (k *kept) put(digest [sha256.Size]byte, m *may) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.by[digest]; ok || m.bytes > k.maxBytes/4 {
		return // somebody was faster, with the same; or it would push out most others
	}
	k.by[digest] = k.order.PushFront(&known{digest, m})
	k.bytes += m.bytes
	for k.bytes > k.maxBytes {
		old := k.order.Remove(k.order.Back()).(*known)
		delete(k.by, old.digest)
		k.bytes -= old.may.bytes
	}
}
