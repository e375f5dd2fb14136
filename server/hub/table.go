package hub

import "github.com/freshet-dev/freshet"

// table is the last change of each topic, in a window: above max topics the
// oldest is forgotten. It has no lock of its own: Hub.mu guards it.
type table struct {
	max     int
	topics  map[string]*entry
	horizon uint64
	// oldest and newest end the list of entries with a position, in order of
	// position; changed is its length.
	oldest, newest *entry
	changed        int
	evictions      uint64
	// floors are the changes of whole sets of topics. One per source template,
	// so there are few, and each look-up walks them all.
	floors map[freshet.Pattern]uint64
	// subscribed are the entries with subscriptions, so that a floor marks
	// without walking the whole table.
	subscribed []*entry
}

// entry is a topic that has changed in the window, or is subscribed to, or both.
type entry struct {
	topic    string
	position uint64 // of the last change; meaningful while in the list
	listed   bool
	older    *entry
	newer    *entry
	subs     []member
	place    int  // in table.subscribed, while there are subs
	held     bool // in quarantine; meaningful while there are subs
}

// member is one subscription's interest in an entry: its topic number slot.
type member struct {
	sub  *Subscription
	slot int
}

func newTable(limit int) table {
	return table{max: limit, topics: make(map[string]*entry), floors: make(map[freshet.Pattern]uint64)}
}

// reset forgets every change; what is subscribed to stays, without position.
func (t *table) reset(horizon uint64) {
	topics := make(map[string]*entry, len(t.subscribed))
	for _, e := range t.subscribed {
		e.position, e.listed, e.older, e.newer = 0, false, nil, nil
		topics[e.topic] = e
	}
	t.topics, t.oldest, t.newest, t.changed = topics, nil, nil, 0
	t.floors = make(map[freshet.Pattern]uint64)
	t.horizon = horizon
}

// get returns the topic's entry, making one.
func (t *table) get(topic string) *entry {
	e := t.topics[topic]
	if e == nil {
		e = &entry{topic: topic}
		t.topics[topic] = e
	}
	return e
}

// touch sets the topic's last change. position is not below that of any other
// entry, so the newest end of the list is its place.
func (t *table) touch(topic string, position uint64) *entry {
	e := t.get(topic)
	e.position = position
	if e == t.newest {
		return e
	}
	t.unlink(e)
	e.listed, e.older = true, t.newest
	if t.newest != nil {
		t.newest.newer = e
	} else {
		t.oldest = e
	}
	t.newest = e
	t.changed++
	return e
}

// unlink takes e out of the list, if it is in it.
func (t *table) unlink(e *entry) {
	if !e.listed {
		return
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		t.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		t.newest = e.older
	}
	e.listed, e.older, e.newer = false, nil, nil
	t.changed--
}

// evict forgets the oldest changes above the bound. The horizon rises to the
// last one forgotten: a topic that isn't in the table changed at or below it.
func (t *table) evict() {
	was := t.horizon
	for t.changed > t.max {
		e := t.oldest
		t.horizon = max(t.horizon, e.position)
		t.evictions++
		t.unlink(e)
		t.drop(e)
	}
	if t.horizon == was {
		return
	}
	for pattern, position := range t.floors {
		// Whoever isn't in the table counts as the horizon, and whoever is in
		// it changed at or above the horizon: the floor says nothing any more.
		if position <= t.horizon {
			delete(t.floors, pattern)
		}
	}
}

// drop removes an entry that is neither changed nor subscribed to.
func (t *table) drop(e *entry) {
	if !e.listed && len(e.subs) == 0 {
		delete(t.topics, e.topic)
	}
}

func (t *table) raiseFloor(pattern freshet.Pattern, position uint64) {
	t.floors[pattern] = max(t.floors[pattern], position)
}

// latest is a position at or above the topic's last change, and how it is
// known: exact if the table holds it, else the horizon; floors included.
func (t *table) latest(topic string) (uint64, because) {
	latest, why := t.horizon, ofHorizon
	if e := t.topics[topic]; e != nil && e.listed {
		latest, why = e.position, itChanged
	}
	for pattern, position := range t.floors {
		if position > latest && pattern.Match(topic) {
			latest, why = position, ofFloor
		}
	}
	return latest, why
}

// mark makes the entry's topic dirty for everyone who subscribes to it, and returns for
// how many it wasn't.
func (e *entry) mark(position uint64) (news int) {
	for _, m := range e.subs {
		if m.sub.mark(m.slot, position) {
			news++
		}
	}
	return news
}

// join adds a subscription's interest, and returns its place among e.subs.
func (t *table) join(e *entry, m member) int {
	if len(e.subs) == 0 {
		e.place = len(t.subscribed)
		t.subscribed = append(t.subscribed, e)
	}
	e.subs = append(e.subs, m)
	return len(e.subs) - 1
}

// leave takes away the interest at a place among e.subs; the last one moves there.
func (t *table) leave(e *entry, place int) {
	end := len(e.subs) - 1
	moved := e.subs[end]
	e.subs[place] = moved
	moved.sub.slots[moved.slot].place = place
	e.subs[end] = member{}
	e.subs = e.subs[:end]
	if end > 0 {
		return
	}
	e.subs = nil
	last := len(t.subscribed) - 1
	t.subscribed[e.place] = t.subscribed[last]
	t.subscribed[e.place].place = e.place
	t.subscribed[last] = nil
	t.subscribed = t.subscribed[:last]
	t.drop(e)
}
