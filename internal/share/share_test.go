package share

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShare(t *testing.T) {
	s := New[string](4, 2)
	require.Equal(t, Granted, s.Take("a", 1))
	require.Equal(t, Granted, s.Take("a", 1))
	require.Equal(t, Over, s.Take("a", 1))
	require.Equal(t, Granted, s.Take("b", 1), "others have their own")
	require.Equal(t, Granted, s.Take("", 1))
	require.Equal(t, Full, s.Take("c", 1))
	require.Equal(t, Full, s.Take("", 1))
	require.Equal(t, Over, s.Take("a", 1), "who has too much is told so, also when it is full")
	s.Give("a", 1)
	require.Equal(t, Granted, s.Take("c", 1))
	for _, who := range []string{"a", "b", "c", ""} {
		s.Give(who, 1)
	}
	require.Zero(t, s.InUse())
	require.Empty(t, s.of, "nobody is remembered who has nothing")

	require.Equal(t, Granted, s.Take("a", 2))
	require.Equal(t, Over, s.Take("b", 3))
	require.Equal(t, Granted, s.Take("b", 1))
	require.Equal(t, Full, s.Take("c", 2), "all or nothing")
	require.Equal(t, Granted, s.Take("c", 1))
	s.Give("a", 2)
	require.Equal(t, 2, s.InUse())

	unbounded := New[int](0, 0)
	for range 100 {
		require.Equal(t, Granted, unbounded.Take(1, 1))
	}
}

func TestShare_atOnce(t *testing.T) {
	s := New[int](10, 3)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 1000 {
				if s.Take(n%4, 1) == Granted {
					if s.InUse() > 10 {
						t.Error("more than there is")
					}
					s.Give(n%4, 1)
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, s.InUse())
	require.Empty(t, s.of)
}

func BenchmarkShare(b *testing.B) {
	s := New[string](10_000, 5_000)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if s.Take("https://id.example.com ada", 1) == Granted {
				s.Give("https://id.example.com ada", 1)
			}
		}
	})
}
