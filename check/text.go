package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-dev/freshet"
)

// A history as text has a line per fact, in the order of their beginnings: a
// time in milliseconds since the start, or two with `..` between; who; what.
// Rows are `r<number>@<version>`.
//
//	10..12  sql-1     write committed r1@2:a>b at=00000001-0000000000000064
//	13      client-1  invalidate 00000001-0000000000000064 a,b
//	14..16  client-1  read a at-least=00000001-0000000000000064 stamp=00000001-0000000000000064 kept
//	20      client-1  shows a r1@2 truth r1@2
//
// An answer that says which topic of its caller's it depends on does so by `names=~a`.
// What is subscribed since another revision than the rest is written
// `topic@revision`, what Postgres holds at the end is
//
//	30      postgres  holds 00000002-0000000000000000 r1@2
//
// where the epoch of a revision counts (as in a write's `lost=`), and what the topic
// `counts` shows is written `a:2,b:1`.
// A line may end in a comment, from # on.

func (c Cell) String() string { return fmt.Sprintf("r%d@%d", c.Row, c.Version) }

// ParseCell reads what Cell.String writes.
func ParseCell(text string) (Cell, error) {
	row, version, ok := strings.Cut(strings.TrimPrefix(text, "r"), "@")
	r, err := strconv.Atoi(row)
	v, err2 := strconv.Atoi(version)
	if !ok || err != nil || err2 != nil {
		return Cell{}, fmt.Errorf("%q is no row: want r<number>@<version>", text)
	}
	return Cell{r, v}, nil
}

// versionBits of a cell's number are its version's.
const versionBits = 20

// Number is the cell as one number, for a column that holds no text. Rows up to 2^43
// and versions up to 2^20 have one of their own, which is far more than a run makes.
func (c Cell) Number() int64 { return int64(c.Row)<<versionBits | int64(c.Version) }

// CellOf is the cell whose Number this is; ok: there is one.
func CellOf(number int64) (c Cell, ok bool) {
	c = Cell{int(number >> versionBits), int(number & (1<<versionBits - 1))}
	return c, c.Row > 0 && c.Version > 0
}

// String writes `r1@2:a>b`.
func (c Change) String() string { return fmt.Sprintf("%v:%s>%s", c.Cell, c.From, c.To) }

func (o Outcome) String() string { return [...]string{"unknown", "committed", "rolled-back"}[o] }

var frameNames = []string{"subscribe", "connected", "disconnected", "invalidate", "ready", "reset", "frontier", "part"}

func (k FrameKind) String() string { return frameNames[k] }

func cellsOf(changes []Change) string {
	cells := make([]Cell, 0, len(changes))
	for _, c := range changes {
		cells = append(cells, c.Cell)
	}
	return join(cells)
}

func join[T fmt.Stringer](list []T) string {
	texts := make([]string, 0, len(list))
	for _, v := range list {
		texts = append(texts, v.String())
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, ",")
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64)
}

// line is one fact, with what sorts it.
type line struct {
	at         time.Duration
	when, who  string
	what       string
	afterwards int // among facts of one time
}

func pair(name string, rev freshet.Revision) string {
	if rev.IsZero() {
		return ""
	}
	return " " + name + "=" + rev.String()
}

func word(on bool, name string) string {
	if !on {
		return ""
	}
	return " " + name
}

func named(name string, topics []string) string {
	if topics == nil {
		return ""
	}
	return " " + name + "=" + strings.Join(topics, ",")
}

func (f *Frame) topics() string {
	texts := make([]string, 0, len(f.Topics))
	for _, topic := range f.Topics {
		if rev, ok := f.SinceBy[topic]; ok {
			topic += "@" + rev.String()
		}
		texts = append(texts, topic)
	}
	return strings.Join(texts, ",")
}

// String writes `a:2`.
func (c Count) String() string { return fmt.Sprintf("%s:%d", c.Place, c.N) }

func (c Content) text(topic string) string {
	if topic == Counted {
		return join(c.Counts)
	}
	return join(c.Cells)
}

func (h *History) lines() []line {
	var lines []line
	for i := range h.Writes {
		w := &h.Writes[i]
		lines = append(lines, line{w.Sent, millis(w.Sent) + ".." + millis(w.Done), w.Writer, "write " + w.Outcome.String() + " " + join(w.Changes) +
			pair("at", w.At) + pair("after", w.After) + pair("upto", w.Upto) + pair("stamp", w.Stamp) + pair("lost", freshet.Revision{Epoch: w.Lost}) + named("topics", w.Topics) + named("emits", w.Emits), 0})
	}
	for i, f := range h.Frames {
		what := f.Kind.String()
		if !f.Revision.IsZero() {
			what += " " + f.Revision.String()
		}
		if len(f.Topics) > 0 {
			what += " " + f.topics()
		}
		lines = append(lines, line{f.At, millis(f.At), f.Client, what + pair("since", f.Since), i + 1})
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		what := "read " + r.Topic + word(r.AtLeast.IsZero(), "strong") + pair("at-least", r.AtLeast) +
			word(r.Direct, "direct") + word(r.Failed, "failed") + word(r.First, "first") + word(r.Kept, "kept") + pair("stamp", r.Stamp) + named("names", r.Names)
		if !r.Failed {
			what += word(r.Partial, "partial") + " shows " + r.text(r.Topic)
		}
		lines = append(lines, line{r.Start, millis(r.Start) + ".." + millis(r.End), r.Client, what, len(h.Frames) + i + 1})
	}
	for _, v := range h.Views {
		lines = append(lines, line{v.At, millis(v.At), v.Client, "shows " + v.Topic + " " + v.Shown.text(v.Topic) + " truth " + v.Truth.text(v.Topic), len(lines) + 1})
	}
	if held := h.Held; held != nil {
		lines = append(lines, line{held.At, millis(held.At), "postgres", "holds " + freshet.Revision{Epoch: held.Epoch}.String() + " " + join(held.Cells), len(lines) + 1})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.afterwards, b.afterwards)) })
	return lines
}

// String writes the history as text.
func (h *History) String() string {
	lines := h.lines()
	when, who := 0, 0
	for _, l := range lines {
		when, who = max(when, len(l.when)), max(who, len(l.who))
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", when, l.when, who, l.who, l.what)
	}
	return b.String()
}
