package lru

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCache(t *testing.T) {
	c := New[string, int](100)
	kept := func(keys ...string) {
		t.Helper()
		entries, _ := c.Size()
		require.Equal(t, len(keys), entries)
		for _, key := range keys {
			require.Contains(t, c.by, key)
		}
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		c.Put(key, 1, 25)
	}
	kept("a", "b", "c", "d")
	value, ok := c.Get("a")
	require.True(t, ok)
	require.Equal(t, 1, value)
	c.Put("e", 2, 25)
	kept("a", "c", "d", "e") // b was asked for least recently
	_, ok = c.Get("b")
	require.False(t, ok)

	c.Put("c", 3, 10)
	value, _ = c.Get("c")
	require.Equal(t, 3, value, "the last one counts")
	c.Put("f", 1, 26)
	kept("a", "c", "d", "e") // it would push out most others
	c.Put("a", 4, 26)
	kept("c", "d", "e") // nor does what it was stay
	c.Put("g", 1, 25)
	kept("c", "d", "e", "g")
	_, bytes := c.Size()
	require.Equal(t, 85, bytes)
}

func TestCache_getOrPut(t *testing.T) {
	c := New[string, int](100)
	require.Equal(t, 1, c.GetOrPut("a", 25, func() int { return 1 }))
	require.Equal(t, 1, c.GetOrPut("a", 25, func() int { t.Error("it is there"); return 2 }))
	for _, key := range []string{"b", "c", "d"} {
		c.Put(key, 2, 25)
	}
	c.GetOrPut("a", 25, func() int { return 3 })
	c.Put("e", 4, 25)
	_, ok := c.Get("a")
	require.True(t, ok, "asked for after b")
	entries, bytes := c.Size()
	require.Equal(t, []int{4, 100}, []int{entries, bytes})
	require.Equal(t, 5, c.GetOrPut("f", 26, func() int { return 5 }), "returned, if not kept")
	_, ok = c.Get("f")
	require.False(t, ok)
}

// Whatever is put, the bound holds, and the count is that of what is there.
func TestCache_isBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New[int, int](100)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := rapid.IntRange(0, 30).Draw(t, "key")
			if rapid.Bool().Draw(t, "put") {
				c.Put(key, key, rapid.IntRange(0, 40).Draw(t, "bytes"))
			} else if value, ok := c.Get(key); ok {
				require.Equal(t, key, value)
			}
			total := 0
			for e := c.order.Front(); e != nil; e = e.Next() {
				kept := e.Value.(*entry[int, int])
				require.Same(t, e, c.by[kept.key])
				total += kept.bytes
			}
			entries, bytes := c.Size()
			require.Equal(t, c.order.Len(), entries)
			require.Equal(t, total, bytes)
			require.LessOrEqual(t, bytes, 100)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c := New[[32]byte, int](1 << 20)
	for i := range 1000 {
		c.Put([32]byte{byte(i), byte(i >> 8)}, i, 100)
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i = (i + 1) % 1000 {
			if _, ok := c.Get([32]byte{byte(i), byte(i >> 8)}); !ok {
				b.Fail()
			}
		}
	})
}
