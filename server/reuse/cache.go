package reuse

import (
	"container/list"
	"hash/maphash"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet"
)

// answerOverhead is what an entry costs beyond its message and its key.
const answerOverhead = 512

// topicOverhead is what a topic of an answer costs beyond its text.
const topicOverhead = 16

// snapshot is a successful response and the frontier from before it was taken.
type snapshot struct {
	response connect.AnyResponse // read only: it is sent to many
	start    freshet.Revision
	// topics are all that it depends on, if its method's answers say that; else nil,
	// and its request does.
	topics []string
	// verdict is what it is beside the answer before; nil: not known.
	verdict *verdict
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
	value   snapshot
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

func (c *cache) get(key readKey) (snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return snapshot{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

// put keeps an answer, unless it has one from a later snapshot or it is so
// large that it would push out most others. A later epoch empties the cache.
//
// replaced is the answer in whose place it is kept, if there was one;
// sameSize: it may be the same.
func (c *cache) put(key readKey, value snapshot) (replaced connect.AnyResponse, sameSize bool) {
	message, ok := value.response.Any().(proto.Message)
	if !ok {
		return nil, false
	}
	size := answerOverhead + len(key.procedure) + len(key.request) + len(key.scope) + len(key.caller) + proto.Size(message)
	for _, topic := range value.topics {
		size += topicOverhead + len(topic)
	}
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
