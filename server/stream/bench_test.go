package stream

import "testing"

// One notice to 1,000 connections, until the last of them has parsed it; server
// and readers share the process.
func BenchmarkEvents_fanOutTo1000(b *testing.B) {
	s := newSite(b, h1, Config{})
	readers := make([]*reader, 1000)
	for i := range readers {
		readers[i] = s.get(b, topicsQuery("conversations/7/messages")+"&throttle=0", nil)
		readers[i].expect("ready", at(100))
	}
	p := uint64(100)
	b.ResetTimer()
	for range b.N {
		p++
		s.publish(p, "conversations/7/messages")
		for _, r := range readers {
			for r.next().lastID != at(p).String() { // a notice may hold two commits
			}
		}
	}
}

func BenchmarkAppendInvalidate(b *testing.B) {
	topics := []string{"messages", "conversations/-/messages", "conversations/7/messages"}
	var buf []byte
	b.ReportAllocs()
	for range b.N {
		buf, _ = appendInvalidate(buf[:0], at(5), topics, false)
	}
}
