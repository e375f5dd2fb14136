package intercept

import (
	"container/list"
	"hash/maphash"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
)

// readKey holds everything that an answer may depend on but the data.
type readKey struct {
	procedure string
	request   string // canonical bytes
	scope     string // the principal, unless the method is shared
}

// answerOverhead is what an entry costs beyond its message and its key.
const answerOverhead = 512

// answer is a successful response and the frontier from before its snapshot.
type answer struct {
	response connect.AnyResponse // read only: it is sent to many
	start    freshet.Revision
}

// want is what a read asks of an answer that it shares. The zero value is a
// strong read's: no answer from before it arrived will do.
type want struct {
	asked    freshet.Revision // at least
	frontier freshet.Revision // of the node, when asked
	floor    freshet.Revision // the last change of its topics, read after frontier; zero: not known
}

// strong reports whether only a snapshot that is still to be taken will do.
func (w want) strong() bool { return w.asked.IsZero() }

// metBy reports whether an answer whose snapshot was taken at or after the
// frontier start will do: because it began where the caller asked for, or by
// the floor rule, because nothing that it depends on has changed since.
func (w want) metBy(start freshet.Revision) bool {
	return !w.strong() && (reaches(start, w.asked) || w.unchangedSince(start))
}

// stamp is the revision up to which the answer holds everything.
func (w want) stamp(start freshet.Revision) freshet.Revision {
	if w.unchangedSince(start) {
		return start.Max(w.frontier)
	}
	return start
}

// unchangedSince is the floor rule: nothing that the answer depends on has
// changed in (start, frontier].
func (w want) unchangedSince(start freshet.Revision) bool {
	return !w.floor.IsZero() && reaches(start, w.floor)
}

// reaches compares positions of one epoch.
func reaches(start, rev freshet.Revision) bool {
	return start.Epoch == rev.Epoch && rev.Position <= start.Position
}

// cache keeps answers, the least recently used going first, bounded in bytes.
// It judges nothing: whoever takes an answer asks its want. With an answer it
// keeps how it is written, once somebody has (form).
type cache struct {
	maxBytes int
	seed     maphash.Seed

	mu        sync.Mutex // guards the fields below
	epoch     freshet.Epoch
	bytes     int
	order     *list.List // of *cached, the most recently used first
	byKey     map[readKey]*list.Element
	byMessage map[proto.Message]*cached
	bySum     map[uint64]*form
}

type cached struct {
	key     readKey
	value   answer
	message proto.Message // of value
	bytes   int           // key and message
	forms   []*form       // one per codec; they come as they are asked for
}

func newCache(maxBytes int) *cache {
	return &cache{
		maxBytes: maxBytes, seed: maphash.MakeSeed(), order: list.New(),
		byKey: map[readKey]*list.Element{}, byMessage: map[proto.Message]*cached{}, bySum: map[uint64]*form{},
	}
}

func (c *cache) get(key readKey) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return answer{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

// put keeps an answer, unless it has one from a later snapshot or it is so
// large that it would push out most others. A later epoch empties the cache.
//
// replaced is the answer in whose place it is kept, if there was one;
// sameSize: it may be the same.
func (c *cache) put(key readKey, value answer) (replaced connect.AnyResponse, sameSize bool) {
	message, ok := value.response.Any().(proto.Message)
	if !ok {
		return nil, false
	}
	size := answerOverhead + len(key.procedure) + len(key.request) + len(key.scope) + proto.Size(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if value.start.Epoch < c.epoch || size > c.maxBytes/4 {
		return nil, false
	}
	if value.start.Epoch > c.epoch {
		c.epoch, c.bytes = value.start.Epoch, 0
		c.order.Init()
		clear(c.byKey)
		clear(c.byMessage)
		clear(c.bySum)
	}
	if e, ok := c.byKey[key]; ok {
		old := e.Value.(*cached)
		if value.start.Less(old.value.start) {
			return nil, false
		}
		replaced, sameSize = old.value.response, size == old.bytes
		c.remove(e)
	}
	kept := &cached{key: key, value: value, message: message, bytes: size}
	c.byKey[key] = c.order.PushFront(kept)
	c.byMessage[message] = kept
	c.grow(size)
	return replaced, sameSize
}

// grow counts bytes, and drops the least recently used until they fit. The
// caller holds mu.
func (c *cache) grow(by int) {
	c.bytes += by
	for c.bytes > c.maxBytes {
		c.remove(c.order.Back())
	}
}

// remove drops an answer and its forms. The caller holds mu.
func (c *cache) remove(e *list.Element) {
	old := c.order.Remove(e).(*cached)
	delete(c.byKey, old.key)
	if c.byMessage[old.message] == old { // a handler may answer twice with one message
		delete(c.byMessage, old.message)
	}
	c.bytes -= old.bytes
	for _, f := range old.forms {
		c.bytes -= f.size()
		if c.bySum[f.sum] == f {
			delete(c.bySum, f.sum)
		}
	}
}

// size returns what the cache holds, for metrics.
func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey), c.bytes
}
