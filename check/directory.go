package check

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/freshet-dev/freshet"
)

// directory knows what topics are called on the wire, the ids of rows, and where they
// are. Safe for concurrent use.
type directory struct {
	of *service

	mu     sync.Mutex // guards all below
	ids    map[int]string
	rows   map[string]int
	places map[int]string // the place of each row that is in one
}

func newDirectory(of *service) *directory {
	return &directory{of: of, ids: map[int]string{}, rows: map[string]int{}, places: map[int]string{}}
}

// name says which id a row has.
func (d *directory) name(row int, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids[row], d.rows[id] = id, row
}

// id is what name said.
func (d *directory) id(row int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[row]
}

// place says where a row is; an empty place: nowhere, or nobody knows.
func (d *directory) place(row int, place string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if place == "" {
		delete(d.places, row)
	} else {
		d.places[row] = place
	}
}

// pick returns the topics of up to n rows that are there, at random, of the kinds that
// the service has.
func (d *directory) pick(rng *rand.Rand, n int) []string {
	items, rows := d.of.kinds.has(OfItem), d.of.kinds.has(OfRow)
	if !items && !rows {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Sorted(maps.Keys(d.places))
	var topics []string
	for _, i := range rng.Perm(len(all))[:min(n, len(all))] {
		place := d.places[all[i]]
		if !items || rows && rng.IntN(2) == 0 {
			place = ""
		}
		topics = append(topics, itemTopic(place, all[i]))
	}
	return topics
}

// full is the topic as the server writes it.
func (d *directory) full(topic string) string {
	place, id := d.parts(topic)
	switch kind := kindOf(topic); kind {
	case ofNobody:
		return topic
	default:
		return d.of.topics[kind].pattern.format(place, id)
	}
}

// parts are the place and the row's id that are in a topic's name.
func (d *directory) parts(topic string) (place, id string) {
	place, row, isItem := itemOf(topic)
	switch {
	case isItem:
		return place, d.id(row)
	case kindOf(topic) == OfPlace || kindOf(topic) == OfCaller:
		return strings.TrimPrefix(topic, callerPrefix), ""
	default:
		return "", ""
	}
}

func (d *directory) fullAll(topics []string) []string {
	all := make([]string, 0, len(topics))
	for _, topic := range topics {
		all = append(all, d.full(topic))
	}
	return all
}

// short is what the history calls a topic: two things, if a place has the same one by
// requests and by callers. One that isn't the checker's stays as it is.
func (d *directory) short(topic string) []string {
	var all []string
	if t := d.of.topics[OfCaller]; t != nil {
		if place, _, ok := t.pattern.match(topic); ok {
			all = append(all, callerTopic(place))
		}
	}
	for _, kind := range []Kind{OfAll, OfCounts, OfItem, OfRow, OfPlace} { // the narrowest first
		t := d.of.topics[kind]
		if t == nil {
			continue
		}
		place, id, ok := t.pattern.match(topic)
		if !ok {
			continue
		}
		switch kind {
		case OfAll:
			return append(all, Everything)
		case OfCounts:
			return append(all, Counted)
		case OfPlace:
			return append(all, place)
		}
		d.mu.Lock()
		row, known := d.rows[id]
		d.mu.Unlock()
		if known {
			return append(all, itemTopic(place, row))
		}
	}
	if len(all) == 0 {
		return []string{topic}
	}
	return all
}

func (d *directory) fullKeys(by map[string]freshet.Revision) map[string]freshet.Revision {
	all := make(map[string]freshet.Revision, len(by))
	for topic, rev := range by {
		all[d.full(topic)] = rev
	}
	return all
}

func (d *directory) shortAll(topics []string) []string {
	if topics == nil {
		return nil
	}
	all := make([]string, 0, len(topics))
	for _, topic := range topics {
		all = append(all, d.short(topic)...)
	}
	return all
}

// uuidOf is the id of a row that is made by SQL, in the run of this name: the same
// whenever it is made anew.
func uuidOf(run string, row int) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(run)) // never fails
	return fmt.Sprintf("%08x-0000-7000-8000-%012x", h.Sum32(), row)
}
