// Package lru keeps what is costly to find out again, bounded in bytes: what was asked
// for least recently goes first.
package lru

import (
	"container/list"
	"sync"
)

// Cache is a bounded map. Use New. All methods are safe for concurrent use.
type Cache[K comparable, V any] struct {
	maxBytes int

	mu    sync.Mutex // guards what follows
	bytes int
	order list.List // of *entry[K, V], the most recently used first
	by    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
	bytes int
}

// New returns a Cache of so many bytes, by what Put is told.
func New[K comparable, V any](maxBytes int) *Cache[K, V] {
	return &Cache[K, V]{maxBytes: maxBytes, by: map[K]*list.Element{}}
}

// Get returns what is kept of key, if anything is.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.get(key)
}

// get is Get. The caller holds mu.
func (c *Cache[K, V]) get(key K) (value V, ok bool) {
	e, ok := c.by[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Put keeps value, which takes so many bytes, in place of what was kept of key; unless
// it is so large that it would push out most others.
func (c *Cache[K, V]) Put(key K, value V, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, value, bytes)
}

// GetOrPut returns what is kept of key; if nothing is, what create returns, which is
// put as Put does. All who ask at once get the same. create must not use the cache.
func (c *Cache[K, V]) GetOrPut(key K, bytes int, create func() V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.get(key)
	if !ok {
		value = create()
		c.put(key, value, bytes)
	}
	return value
}

// put is Put. The caller holds mu.
func (c *Cache[K, V]) put(key K, value V, bytes int) {
	if e, ok := c.by[key]; ok {
		c.remove(e)
	}
	if bytes > c.maxBytes/4 {
		return
	}
	c.by[key] = c.order.PushFront(&entry[K, V]{key, value, bytes})
	c.bytes += bytes
	for c.bytes > c.maxBytes {
		c.remove(c.order.Back())
	}
}

// remove drops an entry. The caller holds mu.
func (c *Cache[K, V]) remove(e *list.Element) {
	old := c.order.Remove(e).(*entry[K, V])
	delete(c.by, old.key)
	c.bytes -= old.bytes
}

// Size is how much is kept: entries, and their bytes.
func (c *Cache[K, V]) Size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by), c.bytes
}
