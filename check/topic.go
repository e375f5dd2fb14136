package check

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Kind is what the read of a topic shows. Every service is seen as rows in places:
// tasks on boards, messages in conversations, lines of orders.
type Kind uint8

// Kinds of topics, and how a history writes a topic of each, here of place a and row 5.
const (
	ofNobody Kind = iota // x.y   nobody's row, told by pg_logical_emit_message
	// OfPlace is the rows of one place: `a`. Every service has it.
	OfPlace
	// OfAll is all rows: `-`.
	OfAll
	// OfItem is one row as long as it is in one place: `a/r5`.
	OfItem
	// OfRow is one row, wherever it is: `/r5`.
	OfRow
	// OfCounts is how many rows each place has: `counts`.
	OfCounts
	// OfCaller is the rows of one place, read by a request that doesn't name it: `~a`. A
	// claim of whoever calls does, and the topic takes that.
	OfCaller
	allKinds
)

const (
	// Everything is the topic of all rows in a history.
	Everything = "-"
	// Counted is the topic of the numbers of rows in a history.
	Counted = "counts"

	callerPrefix = "~"
)

// callerTopic is the topic of a place's rows, asked for by the caller whose it is.
func callerTopic(place string) string { return callerPrefix + place }

// kinds are a set.
type kinds uint8

const everyKind kinds = 1<<allKinds - 1

// byRow is in the set if topics of places tell only which rows they have: Topic.ByRow.
const byRow kinds = 1 << allKinds

// setOf always has OfPlace; of nothing it is every kind.
func setOf(list []Kind) kinds {
	if len(list) == 0 {
		return everyKind
	}
	set := kinds(1 << OfPlace)
	for _, kind := range list {
		set |= 1 << kind
	}
	return set
}

func (k kinds) has(kind Kind) bool { return k&(1<<kind) != 0 }

// kindOf is the kind of a topic of a history.
func kindOf(topic string) Kind {
	switch place, _, isItem := itemOf(topic); {
	case topic == Everything:
		return OfAll
	case topic == Counted:
		return OfCounts
	case strings.HasPrefix(topic, callerPrefix):
		return OfCaller
	case isItem && place == "":
		return OfRow
	case isItem:
		return OfItem
	case strings.ContainsAny(topic, "/."):
		return ofNobody
	default:
		return OfPlace
	}
}

// itemTopic is the topic of one row in one place, or wherever it is if there is none.
func itemTopic(place string, row int) string { return place + "/r" + strconv.Itoa(row) }

// itemOf takes the topic of a row apart; ok: it is one.
func itemOf(topic string) (place string, row int, ok bool) {
	place, rest, ok := strings.Cut(topic, "/r")
	if !ok {
		return "", 0, false
	}
	row, err := strconv.Atoi(rest)
	return place, row, err == nil
}

// topics are all that a change is told by, distinct, of the kinds that there are.
func (c Change) topics(of kinds) []string {
	var topics []string
	add := func(kind Kind, topic string) {
		if of.has(kind) {
			topics = append(topics, topic)
		}
	}
	add(OfAll, Everything)
	add(OfCounts, Counted)
	for i, place := range []string{c.From, c.To} {
		if place == "" || i == 1 && c.To == c.From {
			continue
		}
		if moves := c.From != c.To; moves || of&byRow == 0 {
			add(OfPlace, place)
		}
		add(OfCaller, callerTopic(place))
		add(OfItem, itemTopic(place, c.Row))
	}
	add(OfRow, itemTopic("", c.Row))
	return topics
}

// concerns says that a change may show in the read of a topic.
func (c Change) concerns(topic string) bool { return slices.Contains(c.topics(everyKind), topic) }

// within says that what a topic's read shows has the version in it.
func (c Change) within(topic string) bool {
	if topic == Everything {
		return c.To != ""
	}
	place, row, ok := itemOf(topic)
	if ok {
		return c.Row == row && c.To != "" && (place == "" || place == c.To)
	}
	return c.To != "" && c.To == strings.TrimPrefix(topic, callerPrefix)
}

// topicsOf are those that a transaction concerns, distinct.
func topicsOf(changes []Change, of kinds) []string {
	var topics []string
	for _, c := range changes {
		topics = append(topics, c.topics(of)...)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// Count is how many rows a place has.
type Count struct {
	Place string
	N     int
}

// Content is what an answer or a screen shows. The zero value shows nothing.
type Content struct {
	Cells  []Cell  // ascending
	Counts []Count // ascending by place; of the topic Counted only, and without those that have no rows
	// Partial: there was more than was read. What isn't shown may be there.
	Partial bool
}

func (c Content) equal(o Content) bool {
	return slices.Equal(c.Cells, o.Cells) && slices.Equal(c.Counts, o.Counts)
}

// contentOf is what the read of a topic shows if the places hold this.
func contentOf(topic string, held map[string][]Cell) Content {
	var c Content
	place, row, _ := itemOf(topic)
	switch kindOf(topic) {
	case OfAll:
		for _, cells := range held {
			c.Cells = append(c.Cells, cells...)
		}
		slices.SortFunc(c.Cells, compareCells)
	case OfCounts:
		for _, name := range slices.Sorted(maps.Keys(held)) {
			if n := len(held[name]); n > 0 {
				c.Counts = append(c.Counts, Count{name, n})
			}
		}
	case OfItem:
		if cell, ok := find(held[place], row); ok {
			c.Cells = []Cell{cell}
		}
	case OfRow:
		for _, cells := range held {
			if cell, ok := find(cells, row); ok {
				c.Cells = []Cell{cell}
			}
		}
	default:
		c.Cells = held[strings.TrimPrefix(topic, callerPrefix)]
	}
	return c
}
