package check

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The topics of a history are written short:
//
//	a         conversations/a/messages: what ListMessages of a conversation shows
//	-         conversations/-/messages: what ListMessages of all conversations shows
//	messages  messages: what ListConversations shows, a number for each conversation
//	a/r5      conversations/a/messages/<the id of row 5>: what GetMessage shows
//	x.y       the same: nobody's row, told by pg_logical_emit_message
const (
	// AllMessages is the topic of all messages.
	AllMessages = "-"
	// Conversations is the topic of all conversations.
	Conversations = "messages"
)

// itemTopic is the topic of one row in one conversation.
func itemTopic(conversation string, row int) string { return conversation + "/r" + strconv.Itoa(row) }

// itemOf takes an item's topic apart; ok: it is one, of a known row.
func itemOf(topic string) (conversation string, row int, ok bool) {
	conversation, rest, ok := strings.Cut(topic, "/r")
	row, err := strconv.Atoi(rest)
	return conversation, row, ok && err == nil
}

// isConversation says that a topic is that of one conversation's messages.
func isConversation(topic string) bool {
	return topic != AllMessages && topic != Conversations && !strings.ContainsAny(topic, "/.")
}

// isOwn says that a topic is nobody's row.
func isOwn(topic string) bool { return strings.Contains(topic, ".") }

// topics are all that a change concerns, distinct.
func (c Change) topics() []string {
	topics := []string{AllMessages, Conversations}
	for i, conversation := range []string{c.From, c.To} {
		if conversation == "" || i == 1 && c.To == c.From {
			continue
		}
		topics = append(topics, conversation, itemTopic(conversation, c.Row))
	}
	return topics
}

// within says that what a topic's read shows has the version in it.
func (c Change) within(topic string) bool {
	if topic == AllMessages {
		return c.To != ""
	}
	conversation, row, ok := itemOf(topic)
	if ok {
		return c.Row == row && c.To == conversation
	}
	return c.To == topic
}

// topicsOf are those that a transaction concerns, distinct.
func topicsOf(changes []Change) []string {
	var topics []string
	for _, c := range changes {
		topics = append(topics, c.topics()...)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Count is how many messages a conversation holds.
type Count struct {
	Conversation string
	N            int
}

// Content is what an answer or a screen shows. The zero value shows nothing.
type Content struct {
	Cells  []Cell  // ascending
	Counts []Count // ascending by conversation; of the topic Conversations only, and without those that hold nothing
	// Partial: there was more than was read. What isn't shown may be there.
	Partial bool
}

func (c Content) equal(o Content) bool {
	return slices.Equal(c.Cells, o.Cells) && slices.Equal(c.Counts, o.Counts)
}

// contentOf is what the read of a topic shows if the conversations hold this.
func contentOf(topic string, held map[string][]Cell) Content {
	var c Content
	conversation, row, isItem := itemOf(topic)
	switch {
	case topic == AllMessages:
		for _, cells := range held {
			c.Cells = append(c.Cells, cells...)
		}
		slices.SortFunc(c.Cells, compareCells)
	case topic == Conversations:
		for _, name := range slices.Sorted(maps.Keys(held)) {
			if n := len(held[name]); n > 0 {
				c.Counts = append(c.Counts, Count{name, n})
			}
		}
	case isItem:
		if cell, ok := find(held[conversation], row); ok {
			c.Cells = []Cell{cell}
		}
	default:
		c.Cells = held[topic]
	}
	return c
}

// directory knows the messages' ids, and where they are. Safe for concurrent use.
type directory struct {
	mu     sync.Mutex // guards all below
	ids    map[int]string
	rows   map[string]int
	places map[int]string // the conversation of each row that is in one
}

func newDirectory() *directory {
	return &directory{ids: map[int]string{}, rows: map[string]int{}, places: map[int]string{}}
}

// name says which id a row has.
func (d *directory) name(row int, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids[row], d.rows[id] = id, row
}

// place says where a row is; an empty conversation: nowhere, or nobody knows.
func (d *directory) place(row int, conversation string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if conversation == "" {
		delete(d.places, row)
	} else {
		d.places[row] = conversation
	}
}

// pick returns the topics of up to n messages that are there, at random.
func (d *directory) pick(rng *rand.Rand, n int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := slices.Sorted(maps.Keys(d.places))
	var topics []string
	for _, i := range rng.Perm(len(rows))[:min(n, len(rows))] {
		topics = append(topics, itemTopic(d.places[rows[i]], rows[i]))
	}
	return topics
}

// full is the topic as the server writes it. Of an item it is the message's name.
func (d *directory) full(topic string) string {
	if topic == Conversations || isOwn(topic) {
		return topic
	}
	conversation, row, ok := itemOf(topic)
	if !ok {
		return "conversations/" + topic + "/messages"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return "conversations/" + conversation + "/messages/" + d.ids[row]
}

func (d *directory) fullAll(topics []string) []string {
	all := make([]string, 0, len(topics))
	for _, topic := range topics {
		all = append(all, d.full(topic))
	}
	return all
}

// short is what the history calls a topic. One that isn't the checker's stays as it is.
func (d *directory) short(topic string) string {
	rest, ok := strings.CutPrefix(topic, "conversations/")
	if !ok {
		return topic
	}
	if conversation, ok := strings.CutSuffix(rest, "/messages"); ok {
		return conversation
	}
	conversation, id, _ := strings.Cut(rest, "/messages/")
	d.mu.Lock()
	defer d.mu.Unlock()
	row, ok := d.rows[id]
	if !ok {
		return topic
	}
	return itemTopic(conversation, row)
}

func (d *directory) shortAll(topics []string) []string {
	if topics == nil {
		return nil
	}
	all := make([]string, 0, len(topics))
	for _, topic := range topics {
		all = append(all, d.short(topic))
	}
	return all
}

// rowID is the id of a row that is made by SQL, in the run of this name: the same
// whenever it is made anew.
func rowID(run string, row int) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run)) // never fails
	return fmt.Sprintf("%08x-0000-7000-8000-%012x", h.Sum32(), row)
}
