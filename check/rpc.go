package check

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"
)

// Ask is what a read asks for.
type Ask struct {
	Topic string // its whole name, as the server writes it
	Place string // of the kinds OfPlace and OfItem
	ID    string // of a row: of the kinds OfItem and OfRow
	// PageSize and PageToken are for reads that answer in pages: at most so many rows
	// or places, and Page.Next of the page before; empty: the first page.
	PageSize  int
	PageToken string
}

// Page is what an answer shows: rows, or of the kind OfCounts the number of rows of
// each place. What is others' may be among it.
type Page struct {
	Rows   []Shown
	Counts []Count
	// Next is the token of the next page; empty: this is the last one.
	Next string
}

// Shown is a row of an answer.
type Shown struct {
	Place string
	Cell  Cell
	ID    string // of the row; needed where a topic is ByRow, else empty
}

// Add adds a row that bears a text, unless that isn't a cell: then it isn't ours.
func (p *Page) Add(place, text string) {
	if cell, err := ParseCell(text); err == nil {
		p.Rows = append(p.Rows, Shown{Place: place, Cell: cell})
	}
}

// AddRow is Add of a row with its id, for a topic that is ByRow.
func (p *Page) AddRow(id, text string) {
	if cell, err := ParseCell(text); err == nil {
		p.Rows = append(p.Rows, Shown{Cell: cell, ID: id})
	}
}

// AddNumber is Add of a row that bears a number.
func (p *Page) AddNumber(place string, number int64) {
	if cell, ok := CellOf(number); ok {
		p.Rows = append(p.Rows, Shown{Place: place, Cell: cell})
	}
}

// Query is an RPC that reads. The error code not_found is an answer that shows nothing.
type Query struct {
	name string
	open func(h connect.HTTPClient, url string, opts ...connect.ClientOption) asker
	page func(answer any) Page
}

// asker sends a read, with the entity tag of an answer that is at hand. It returns
// the answer and its tag; empty: it has none; and what it says of its caller.
type asker func(ctx context.Context, ask Ask, tag string) (answer any, fresh, principal string, err error)

// NewQuery makes one of a procedure (as generated code names it,
// "/tasks.v1.TaskService/ListTasks"), what builds its request, and what reads its
// answer. Both are called from many goroutines at once.
func NewQuery[Q, A any](procedure string, request func(Ask) *Q, page func(*A) Page) Query {
	return Query{
		name: methodOf(procedure),
		page: func(answer any) Page { return page(answer.(*A)) },
		open: func(h connect.HTTPClient, url string, opts ...connect.ClientOption) asker {
			c := newClient[Q, A](h, url, procedure, append(opts, connect.WithIdempotency(connect.IdempotencyNoSideEffects))...)
			return func(ctx context.Context, ask Ask, tag string) (any, string, string, error) {
				req := connect.NewRequest(request(ask))
				if tag != "" {
					req.Header().Set("If-None-Match", tag)
				}
				resp, err := c.CallUnary(ctx, req)
				if failed, ok := errors.AsType[*connect.Error](err); ok {
					return nil, "", failed.Meta().Get(headerPrincipal), err
				}
				if err != nil {
					return nil, "", "", err
				}
				return resp.Msg, resp.Header().Get("ETag"), resp.Header().Get(headerPrincipal), nil
			}
		},
	}
}

// As is the query under another name in reports, where a method reads several kinds
// of topics.
func (q Query) As(name string) Query {
	q.name = name
	return q
}

// Mutation is an RPC that writes one row. The zero value is none.
type Mutation struct {
	name Exercise
	open func(h connect.HTTPClient, url string, opts ...connect.ClientOption) sender
}

// sender sends a write and returns the row's id.
type sender func(context.Context, Row) (id string, err error)

// NewMutation makes one of a procedure, what builds its request, and what finds the
// row's id in its answer; nil: the row has the id that it was asked with.
func NewMutation[Q, A any](procedure string, request func(Row) *Q, id func(*A) string) Mutation {
	return Mutation{
		name: Exercise(methodOf(procedure)),
		open: func(h connect.HTTPClient, url string, opts ...connect.ClientOption) sender {
			c := newClient[Q, A](h, url, procedure, opts...)
			return func(ctx context.Context, row Row) (string, error) {
				resp, err := c.CallUnary(ctx, connect.NewRequest(request(row)))
				if err != nil || id == nil {
					return row.ID, err
				}
				return id(resp.Msg), nil
			}
		},
	}
}

func newClient[Q, A any](h connect.HTTPClient, url, procedure string, opts ...connect.ClientOption) *connect.Client[Q, A] {
	return connect.NewClient[Q, A](h, strings.TrimRight(url, "/")+procedure, opts...)
}

// protocol is a way to send a read.
type protocol uint8

const (
	byPost protocol = iota
	byGet           // with If-None-Match, as browsers do
	byGRPCWeb
	byJSON
	protocols
)

var protocolNames = [protocols]Exercise{"Connect POST", "Connect GET", "gRPC-Web", "JSON"}

// wire is a service by one protocol.
type wire struct {
	protocol protocol
	reads    [allKinds]asker
	// Those that the service lacks are nil.
	create, update, remove sender
}

// dial makes a wire for each protocol.
func (s *service) dial(h *http.Client, url string, opts ...connect.ClientOption) [protocols]*wire {
	extra := [protocols]connect.ClientOption{byGet: connect.WithHTTPGet(), byGRPCWeb: connect.WithGRPCWeb(), byJSON: connect.WithProtoJSON()}
	var all [protocols]*wire
	for p := range all {
		opts := slices.Clone(opts)
		if extra[p] != nil {
			opts = append(opts, extra[p])
		}
		opts = slices.Clip(opts) // for those who append
		l := &wire{protocol: protocol(p)}
		for kind, t := range s.topics {
			if t != nil {
				l.reads[kind] = t.Read.open(h, url, opts...)
			}
		}
		write := func(m Mutation) sender {
			if m.open == nil {
				return nil
			}
			return m.open(h, url, opts...)
		}
		l.create, l.update, l.remove = write(s.Create), write(s.Update), write(s.Delete)
		all[p] = l
	}
	return all
}
