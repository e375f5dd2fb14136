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
		w := Write{Writer: who, Sent: start, Done: end, Topics: p.named("topics="), Emits: p.named("emits="), Outcome: p.outcome(), Changes: p.changes()}
		var lost freshet.Revision
		p.pairs(map[string]*freshet.Revision{"at": &w.At, "after": &w.After, "upto": &w.Upto, "stamp": &w.Stamp, "lost": &lost})
		w.Lost = lost.Epoch
		h.Writes = append(h.Writes, w)
	case "read":
		r := Read{Client: who, Start: start, End: end, Topic: p.next(), Names: p.named("names=")}
		p.pairs(map[string]*freshet.Revision{"at-least": &r.AtLeast, "stamp": &r.Stamp})
		p.flag("strong")
		r.Direct, r.Failed, r.First = p.flag("direct"), p.flag("failed"), p.flag("first")
		r.Kept = p.flag("kept")
		partial := p.flag("partial")
		if p.flag("shows") {
			r.Content = p.content(r.Topic)
		}
		r.Partial = partial
		h.Reads = append(h.Reads, r)
	case "holds":
		h.Held = &Holding{At: start, Epoch: p.revision(p.next()).Epoch, Cells: p.cells()}
	case "shows":
		v := View{Client: who, At: start, Topic: p.next()}
		v.Shown = p.content(v.Topic)
		p.flag("truth")
		v.Truth = p.content(v.Topic)
		h.Views = append(h.Views, v)
	default:
		kind := slices.Index(frameNames, what)
		if kind < 0 {
			return fmt.Errorf("%q is nothing that can happen", what)
		}
		f := Frame{Client: who, At: start, Kind: FrameKind(kind)}
		p.pairs(map[string]*freshet.Revision{"since": &f.Since})
		switch f.Kind {
		case Subscribe:
			f.Topics, f.SinceBy = p.topics()
		case Invalidate, Part:
			f.Revision = p.revision(p.next())
			if len(p.rest) > 0 { // none: of those that the excerpt is about
				f.Topics = strings.Split(p.next(), ",")
			}
		case Ready, Reset, Heartbeat:
			f.Revision = p.revision(p.next())
		case Connected, Disconnected:
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

// named takes topics after a name, wherever it stands.
func (p *parser) named(name string) []string {
	i := slices.IndexFunc(p.rest, func(field string) bool { return strings.HasPrefix(field, name) })
	if i < 0 {
		return nil
	}
	field := p.rest[i]
	p.rest = slices.Concat(p.rest[:i], p.rest[i+1:])
	return strings.Split(field[len(name):], ",")
}

// topics takes those of a subscription.
func (p *parser) topics() (topics []string, since map[string]freshet.Revision) {
	for part := range strings.SplitSeq(p.next(), ",") {
		topic, rev, ok := strings.Cut(part, "@")
		topics = append(topics, topic)
		if !ok {
			continue
		}
		if since == nil {
			since = map[string]freshet.Revision{}
		}
		since[topic] = p.revision(rev)
	}
	return topics, since
}

// content takes what a topic's read shows.
func (p *parser) content(topic string) Content {
	if topic != Counted {
		return Content{Cells: p.cells()}
	}
	var c Content
	text := p.next()
	if text == "-" {
		return c
	}
	for part := range strings.SplitSeq(text, ",") {
		place, n, _ := strings.Cut(part, ":")
		number, err := strconv.Atoi(n)
		if err != nil {
			p.fail(fmt.Errorf("%q is no number of rows: want place:number", part))
		}
		c.Counts = append(c.Counts, Count{place, number})
	}
	return c
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
