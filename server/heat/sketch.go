package heat

import (
	"cmp"
	"container/heap"
)

// sketch is the heaviest topics of a stream of them, by Space-Saving: a topic that isn't
// among them takes the lightest one's place, and its weight. (Libraries have it for
// counts alone; here four counts go with each.)
type sketch struct {
	limit    int
	heap     lightest
	by       map[string]*counted
	replaced int
}

type counted struct {
	Topic
	weight int
	place  int // in the heap
}

func newSketch(limit int) *sketch {
	return &sketch{limit: limit, by: make(map[string]*counted)}
}

// touch adds weight to a topic, and returns its counts.
func (s *sketch) touch(topic string, weight int) *Topic {
	c := s.by[topic]
	switch {
	case c != nil:
	case len(s.heap) < s.limit:
		c = &counted{Topic: Topic{Topic: topic}}
		s.by[topic] = c
		heap.Push(&s.heap, c)
	default:
		c = s.heap[0]
		delete(s.by, c.Topic.Topic)
		c.Topic = Topic{Topic: topic}
		s.by[topic] = c
		s.replaced++
	}
	c.weight += weight
	heap.Fix(&s.heap, c.place)
	return &c.Topic
}

// lightest is a heap.
type lightest []*counted

func (h lightest) Len() int           { return len(h) }
func (h lightest) Less(i, j int) bool { return h[i].weight < h[j].weight }
func (h lightest) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *lightest) Push(x any) {
	c := x.(*counted)
	c.place = len(*h)
	*h = append(*h, c)
}

func (h *lightest) Pop() any { panic("heat: nothing is taken out") }

// compare puts what costs most first.
func compare(a, b Topic) int {
	return cmp.Or(
		cmp.Compare(b.NeedlessReads, a.NeedlessReads),
		cmp.Compare(b.Notices, a.Notices),
		cmp.Compare(b.Reads, a.Reads),
		cmp.Compare(b.Changes, a.Changes),
		cmp.Compare(a.Topic, b.Topic),
	)
}
