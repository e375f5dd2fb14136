package check

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
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

// String writes `r1@2:a>b`.
func (c Change) String() string { return fmt.Sprintf("%v:%s>%s", c.Cell, c.From, c.To) }

func (o Outcome) String() string { return [...]string{"unknown", "committed", "rolled-back"}[o] }

var frameNames = []string{"subscribe", "connected", "disconnected", "invalidate", "ready", "reset", "frontier"}

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

func (h *History) lines() []line {
	var lines []line
	for i := range h.Writes {
		w := &h.Writes[i]
		lines = append(lines, line{w.Sent, millis(w.Sent) + ".." + millis(w.Done), w.Writer, "write " + w.Outcome.String() + " " + join(w.Changes) +
			pair("at", w.At) + pair("after", w.After) + pair("upto", w.Upto) + pair("stamp", w.Stamp), 0})
	}
	for i, f := range h.Frames {
		what := f.Kind.String()
		if !f.Revision.IsZero() {
			what += " " + f.Revision.String()
		}
		if len(f.Topics) > 0 {
			what += " " + strings.Join(f.Topics, ",")
		}
		lines = append(lines, line{f.At, millis(f.At), f.Client, what + pair("since", f.Since), i + 1})
	}
	for i := range h.Reads {
		r := &h.Reads[i]
		what := "read " + r.Conversation + word(r.AtLeast.IsZero(), "strong") + pair("at-least", r.AtLeast) +
			word(r.Direct, "direct") + word(r.Failed, "failed") + word(r.Kept, "kept") + pair("stamp", r.Stamp)
		if !r.Failed {
			what += " shows " + join(r.Cells)
		}
		lines = append(lines, line{r.Start, millis(r.Start) + ".." + millis(r.End), r.Client, what, len(h.Frames) + i + 1})
	}
	for _, v := range h.Views {
		lines = append(lines, line{v.At, millis(v.At), v.Client, "shows " + v.Conversation + " " + join(v.Shown) + " truth " + join(v.Truth), len(lines) + 1})
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

// ParseHistory reads what String writes. In it a revision may be short:
// `1-64`, both in hex.
func ParseHistory(r io.Reader) (*History, error) {
	h := &History{}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		text, _, _ := strings.Cut(scanner.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if err := h.parse(fields); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return h, scanner.Err()
}

func (h *History) parse(fields []string) error {
	if len(fields) < 3 {
		return fmt.Errorf("%q: want a time, who, and what", strings.Join(fields, " "))
	}
	p := parser{rest: fields[3:]}
	from, to, spans := strings.Cut(fields[0], "..")
	start := p.millis(from)
	end := start
	if spans {
		end = p.millis(to)
	}
	switch who, what := fields[1], fields[2]; what {
	case "write":
		w := Write{Writer: who, Sent: start, Done: end, Outcome: p.outcome(), Changes: p.changes()}
		p.pairs(map[string]*freshet.Revision{"at": &w.At, "after": &w.After, "upto": &w.Upto, "stamp": &w.Stamp})
		h.Writes = append(h.Writes, w)
	case "read":
		r := Read{Client: who, Start: start, End: end, Conversation: p.next()}
		p.pairs(map[string]*freshet.Revision{"at-least": &r.AtLeast, "stamp": &r.Stamp})
		p.flag("strong")
		r.Direct, r.Failed, r.Kept = p.flag("direct"), p.flag("failed"), p.flag("kept")
		if p.flag("shows") {
			r.Cells = p.cells()
		}
		h.Reads = append(h.Reads, r)
	case "shows":
		v := View{Client: who, At: start, Conversation: p.next(), Shown: p.cells()}
		p.flag("truth")
		v.Truth = p.cells()
		h.Views = append(h.Views, v)
	default:
		kind := slices.Index(frameNames, what)
		if kind < 0 {
			return fmt.Errorf("%q is nothing that can happen", what)
		}
		f := Frame{Client: who, At: start, Kind: FrameKind(kind)}
		p.pairs(map[string]*freshet.Revision{"since": &f.Since})
		if f.Kind == Invalidate || f.Kind == Ready || f.Kind == Reset || f.Kind == Heartbeat {
			f.Revision = p.revision(p.next())
		}
		if f.Kind == Subscribe || f.Kind == Invalidate {
			f.Topics = strings.Split(p.next(), ",")
		}
		h.Frames = append(h.Frames, f)
	}
	if p.err == nil && len(p.rest) > 0 {
		return fmt.Errorf("%q is too much", strings.Join(p.rest, " "))
	}
	return p.err
}

// parser takes the fields of a line; its first error stays.
type parser struct {
	rest []string
	err  error
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) next() string {
	if len(p.rest) == 0 {
		p.fail(io.ErrUnexpectedEOF)
		return ""
	}
	field := p.rest[0]
	p.rest = p.rest[1:]
	return field
}

// flag takes a word if it comes next.
func (p *parser) flag(word string) bool {
	if len(p.rest) == 0 || p.rest[0] != word {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// pairs takes every name=revision, wherever it stands.
func (p *parser) pairs(of map[string]*freshet.Revision) {
	p.rest = slices.DeleteFunc(slices.Clone(p.rest), func(field string) bool {
		name, text, ok := strings.Cut(field, "=")
		if ok && of[name] != nil {
			*of[name] = p.revision(text)
		}
		return ok && of[name] != nil
	})
}

func (p *parser) millis(text string) time.Duration {
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.fail(fmt.Errorf("%q is no time in milliseconds", text))
	}
	return time.Duration(ms * float64(time.Millisecond))
}

func (p *parser) revision(text string) freshet.Revision {
	if rev, err := freshet.ParseRevision(text); err == nil {
		return rev
	}
	epoch, position, _ := strings.Cut(text, "-")
	e, err := strconv.ParseUint(epoch, 16, 32)
	at, err2 := strconv.ParseUint(position, 16, 64)
	if err != nil || err2 != nil {
		p.fail(fmt.Errorf("%q is no revision", text))
	}
	return freshet.Revision{Epoch: freshet.Epoch(e), Position: at}
}

func (p *parser) outcome() Outcome {
	word := p.next()
	for o := Unknown; o <= RolledBack; o++ {
		if o.String() == word {
			return o
		}
	}
	p.fail(fmt.Errorf("%q is no outcome", word))
	return Unknown
}

func (p *parser) cells() []Cell {
	var cells []Cell
	text := p.next()
	if text == "-" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		cell, err := ParseCell(part)
		if err != nil {
			p.fail(err)
		}
		cells = append(cells, cell)
	}
	slices.SortFunc(cells, compareCells)
	return cells
}

func compareCells(a, b Cell) int {
	return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Version, b.Version))
}

func (p *parser) changes() []Change {
	var changes []Change
	for part := range strings.SplitSeq(p.next(), ",") {
		cell, way, _ := strings.Cut(part, ":")
		from, to, ok := strings.Cut(way, ">")
		c, err := ParseCell(cell)
		if err != nil || !ok {
			p.fail(fmt.Errorf("%q is no change: want r1@2:from>to", part))
		}
		changes = append(changes, Change{c, from, to})
	}
	return changes
}
