package hub

import (
	"fmt"
	"testing"

	"github.com/freshet-dev/freshet"
)

func benchHub(b *testing.B, topics int) *Hub {
	b.Helper()
	h := New(Config{})
	h.Begin(at(1))
	h.Serve(at(1))
	for i := range topics {
		h.Publish(commit(uint64(i+2), fmt.Sprintf("conversations/%d/messages", i)))
	}
	return h
}

// One commit of one topic that 10,000 subscriptions follow; all of them have
// taken what was before.
func BenchmarkPublish_to10000(b *testing.B) {
	h := benchHub(b, 1000)
	subs := make([]*Subscription, 10_000)
	for i := range subs {
		s, err := h.Subscribe([]string{"conversations/7/messages", fmt.Sprintf("conversations/%d/messages", i)}, Since{})
		if err != nil {
			b.Fatal(err)
		}
		subs[i] = s
	}
	p := uint64(10_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p++
		h.Publish(commit(p, "conversations/7/messages"))
		b.StopTimer()
		for _, s := range subs {
			<-s.Wake()
			s.Take()
		}
		b.StartTimer()
	}
}

func BenchmarkPublish_toNobody(b *testing.B) {
	h := benchHub(b, 1000)
	topics := []string{"messages", "conversations/-/messages", "conversations/7/messages", "conversations/7/messages/1"}
	b.ReportAllocs()
	for i := range b.N {
		h.Publish(freshet.Commit{Revision: at(uint64(10_000 + i)), Topics: topics})
	}
}

func BenchmarkFloor(b *testing.B) {
	h := benchHub(b, 100_000)
	h.Publish(floorCommit(200_000, "tasks/*/items/*", "tasks/**"))
	topics := []string{"conversations/7/messages"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Floor(topics)
		}
	})
}

func BenchmarkSubscribe_10topics(b *testing.B) {
	h := benchHub(b, 100_000)
	topics := make([]string, 10)
	for i := range topics {
		topics[i] = fmt.Sprintf("conversations/%d/messages", i*99)
	}
	b.ReportAllocs()
	for range b.N {
		s, err := h.Subscribe(topics, Since{All: at(50)})
		if err != nil {
			b.Fatal(err)
		}
		s.Take()
		s.Close()
	}
}
