package check

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/internal/rule"
)

// reader reads what topics name, by one protocol. By GET it keeps each answer
// that has an entity tag, and takes it again when the server says 304. Safe for
// concurrent use.
type reader struct {
	wire     *wire
	names    *directory
	rec      *recorder
	ours     []string // places
	pageSize int      // of lists

	mu   sync.Mutex // guards kept
	kept map[string]tagged
}

// tagged is an answer and its entity tag.
type tagged struct {
	tag    string
	answer any
}

// maxKept bounds a reader's answers.
const maxKept = 64

const (
	// maxRows bounds what is read of a list, about; a server that others use may
	// hold more.
	maxRows  = 5000
	maxPage  = 1000
	someRows = 10 // in a page of those who turn pages
)

func newReader(l *wire, names *directory, rec *recorder, ours []string) *reader {
	r := &reader{wire: l, names: names, rec: rec, ours: ours, pageSize: maxPage, kept: map[string]tagged{}}
	if l.protocol == byJSON {
		r.pageSize = someRows
	}
	return r
}

// read sends a read and fills in its answer. A list that comes in pages is as old
// as the oldest of them.
func (r *reader) read(ctx context.Context, read *Read) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := r.pages(ctx, read); err != nil {
		read.Failed, read.Stamp, read.Names, read.Content = true, freshet.Revision{}, nil, Content{}
		return err
	}
	r.rec.did(r.names.of.topics[kindOf(read.Topic)].reading, protocolNames[r.wire.protocol])
	slices.SortFunc(read.Cells, compareCells)
	slices.SortFunc(read.Counts, func(a, b Count) int { return cmp.Compare(a.Place, b.Place) })
	return nil
}

// errTorn: the pages of a list are of two histories of the database, and so it is of none.
var errTorn = errors.New("an epoch began between two pages of a list")

// pages reads all pages of an answer, however few they are.
func (r *reader) pages(ctx context.Context, read *Read) error {
	ask := Ask{Topic: r.names.full(read.Topic), PageSize: r.pageSize}
	ask.Place, ask.ID = r.names.parts(read.Topic)
	if kindOf(read.Topic) == OfCaller {
		ctx, ask = asCaller(ctx, ask.Place), Ask{PageSize: r.pageSize} // which is all that the request says
	}
	for rows := 0; rows < maxRows; rows += r.pageSize {
		first := ask.PageToken == ""
		page, stamp, err := r.page(ctx, read, ask)
		if !first && err == nil && stamp.Epoch != read.Stamp.Epoch {
			return errTorn
		}
		if first || stamp.Less(read.Stamp) {
			read.Stamp = stamp
		}
		if first && connect.CodeOf(err) == connect.CodeNotFound {
			return nil // that there is nothing is an answer, too
		}
		if err != nil {
			return err
		}
		r.add(read, page)
		if ask.PageToken = page.Next; page.Next == "" {
			return nil
		}
		r.rec.did("lists in several pages")
	}
	read.Partial = true
	r.rec.did(longList)
	return nil
}

// add adds a page to those before it, but for what is others'.
func (r *reader) add(read *Read, page Page) {
	var cells []Cell
	for _, row := range page.Rows {
		if read.Topic != Everything || r.isOurs(row.Place) {
			cells = append(cells, row.Cell)
		}
		if row.ID != "" {
			r.names.name(row.Cell.Row, row.ID) // maybe before its writer knows it
		}
	}
	read.Cells = joinPages(read.Cells, cells)
	for _, count := range page.Counts {
		if r.isOurs(count.Place) {
			read.Counts = append(read.Counts, count)
		}
	}
}

func (r *reader) isOurs(place string) bool { return slices.Contains(r.ours, place) }

// joinPages adds a page to those before it. Each page is an answer of its own, and
// a later one may be the older: a row that was deleted and made again in between
// can be on both. Then the older version counts, which the stamp must allow (the
// lowest of all pages). The same version twice is wrong, and stays.
func joinPages(cells, page []Cell) []Cell {
	joined := slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool {
		return slices.ContainsFunc(page, func(p Cell) bool { return p.Row == c.Row && p.Version < c.Version })
	})
	for _, p := range page {
		if !slices.ContainsFunc(cells, func(c Cell) bool { return c.Row == p.Row && c.Version < p.Version }) {
			joined = append(joined, p)
		}
	}
	return joined
}

// page sends one request of a read and returns what its answer shows, and its stamp.
func (r *reader) page(ctx context.Context, read *Read, ask Ask) (Page, freshet.Revision, error) {
	var stamp client.Stamp
	ctx = client.CaptureStamp(client.AtLeast(client.Strong(ctx), read.AtLeast), &stamp)
	kind, key := kindOf(read.Topic), read.Topic+" "+ask.PageToken
	if kind == OfCaller {
		key = callerPrefix + " " + ask.PageToken // one URL, as a browser's cache has it, whoever asks
	}
	show := r.names.of.topics[kind].Read.page
	var held tagged
	if r.wire.protocol == byGet {
		r.mu.Lock()
		held = r.kept[key]
		r.mu.Unlock()
	}
	answer, tag, principal, err := r.wire.reads[kind](ctx, ask, held.tag)
	if kind == OfCaller && ask.PageToken == "" {
		read.Names = r.names.named(principal)
	}
	switch {
	case held.tag != "" && connect.IsNotModifiedError(err):
		r.rec.did("304")
		return show(held.answer), stamp.Revision, nil
	case err != nil:
		return Page{}, stamp.Revision, err
	}
	if tag != "" && r.wire.protocol == byGet {
		r.mu.Lock()
		if len(r.kept) >= maxKept {
			clear(r.kept)
		}
		r.kept[key] = tagged{tag, answer}
		r.mu.Unlock()
	}
	return show(answer), stamp.Revision, nil
}

// failure reads what an error says to clients.
func failure(err error) rule.Input {
	in := rule.Input{Kind: rule.OnFailure}
	cerr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return in
	}
	for _, d := range cerr.Details() {
		message, err := d.Value()
		if err != nil {
			continue
		}
		switch m := message.(type) {
		case *errdetails.RetryInfo:
			in.Wait = min(max(0, m.GetRetryDelay().AsDuration()), time.Minute)
		case *errdetails.ErrorInfo:
			switch m.GetReason() {
			case "EPOCH_CHANGED":
				in.EpochChanged = true
				epoch, _ := strconv.ParseUint(m.GetMetadata()["epoch"], 16, 32) // zero: not named
				in.Revision.Epoch = freshet.Epoch(epoch)
			case "AT_LEAST_UNKNOWN":
				in.Unknown = true
			}
		}
	}
	return in
}
