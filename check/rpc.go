package check

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/rule"
)

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

// newMessages makes a client for each protocol.
func newMessages(h *http.Client, url string, opts ...connect.ClientOption) [protocols]messagesv1connect.MessageServiceClient {
	extra := [protocols]connect.ClientOption{byGet: connect.WithHTTPGet(), byGRPCWeb: connect.WithGRPCWeb(), byJSON: connect.WithProtoJSON()}
	var all [protocols]messagesv1connect.MessageServiceClient
	for p := range all {
		if opts := slices.Clone(opts); extra[p] != nil {
			all[p] = messagesv1connect.NewMessageServiceClient(h, url, append(opts, extra[p])...)
		} else {
			all[p] = messagesv1connect.NewMessageServiceClient(h, url, opts...)
		}
	}
	return all
}

// reader reads what topics name, by one protocol. By GET it keeps each answer
// that has an entity tag, and takes it again when the server says 304. Safe for
// concurrent use.
type reader struct {
	messages messagesv1connect.MessageServiceClient
	protocol protocol
	names    *directory
	rec      *recorder
	ours     []string // conversations
	pageSize int      // of lists

	mu   sync.Mutex // guards kept
	kept map[string]tagged
}

// tagged is an answer and its entity tag.
type tagged struct {
	tag     string
	message any
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

func newReader(messages messagesv1connect.MessageServiceClient, by protocol, names *directory, rec *recorder, ours []string) *reader {
	r := &reader{messages: messages, protocol: by, names: names, rec: rec, ours: ours, pageSize: maxPage, kept: map[string]tagged{}}
	if by == byJSON {
		r.pageSize = someRows
	}
	return r
}

// read sends a read and fills in its answer. A list that comes in pages is as old
// as the oldest of them.
func (r *reader) read(ctx context.Context, read *Read) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var err error
	name := r.names.full(read.Topic)
	_, _, isItem := itemOf(read.Topic)
	switch {
	case isItem:
		err = r.get(ctx, read, name)
	case read.Topic == Conversations:
		err = r.pages(ctx, read, r.countPage)
	default:
		parent := strings.TrimSuffix(name, "/messages")
		err = r.pages(ctx, read, func(ctx context.Context, read *Read, token string) (string, freshet.Revision, error) {
			return r.listPage(ctx, read, parent, token)
		})
	}
	if err != nil {
		read.Failed, read.Stamp, read.Content = true, freshet.Revision{}, Content{}
		return err
	}
	r.rec.did(methodOf(read.Topic), protocolNames[r.protocol])
	slices.SortFunc(read.Cells, compareCells)
	return nil
}

// pages reads a list; one reads a page and returns the token of the next.
func (r *reader) pages(ctx context.Context, read *Read, one func(context.Context, *Read, string) (string, freshet.Revision, error)) error {
	token := ""
	for rows := 0; rows < maxRows; rows += r.pageSize {
		before := len(read.Cells)
		next, stamp, err := one(ctx, read, token)
		if err != nil {
			return err
		}
		read.Cells = joinPages(read.Cells[:before], read.Cells[before:])
		if token == "" || stamp.Less(read.Stamp) {
			read.Stamp = stamp
		}
		if token = next; token == "" {
			return nil
		}
		r.rec.did("lists in several pages")
	}
	read.Partial = true
	r.rec.did(longList)
	return nil
}

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

func (r *reader) listPage(ctx context.Context, read *Read, parent, token string) (string, freshet.Revision, error) {
	answer, stamp, err := call(ctx, r, read, token, &messagesv1.ListMessagesRequest{Parent: parent, PageSize: int32(r.pageSize), PageToken: token}, r.messages.ListMessages)
	for _, m := range answer.GetMessages() {
		r.cell(read, m)
	}
	return answer.GetNextPageToken(), stamp, err
}

func (r *reader) countPage(ctx context.Context, read *Read, token string) (string, freshet.Revision, error) {
	answer, stamp, err := call(ctx, r, read, token, &messagesv1.ListConversationsRequest{PageSize: int32(r.pageSize), PageToken: token}, r.messages.ListConversations)
	for _, c := range answer.GetConversations() {
		if name := strings.TrimPrefix(c.GetName(), "conversations/"); r.isOurs(name) {
			read.Counts = append(read.Counts, Count{name, int(c.GetMessageCount())})
		}
	}
	slices.SortFunc(read.Counts, func(a, b Count) int { return cmp.Compare(a.Conversation, b.Conversation) })
	return answer.GetNextPageToken(), stamp, err
}

// get reads one message. That there is none is an answer, too.
func (r *reader) get(ctx context.Context, read *Read, name string) error {
	answer, stamp, err := call(ctx, r, read, "", &messagesv1.GetMessageRequest{Name: name}, r.messages.GetMessage)
	if read.Stamp = stamp; connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	if err == nil {
		r.cell(read, answer.GetMessage())
	}
	return err
}

// cell adds a message, if it is this run's: in all conversations there are others'.
func (r *reader) cell(read *Read, m *messagesv1.Message) {
	conversation, _, _ := strings.Cut(strings.TrimPrefix(m.GetName(), "conversations/"), "/")
	if read.Topic == AllMessages && !r.isOurs(conversation) {
		return
	}
	if cell, err := ParseCell(m.GetBody()); err == nil {
		read.Cells = append(read.Cells, cell)
	}
}

func (r *reader) isOurs(conversation string) bool { return slices.Contains(r.ours, conversation) }

// call sends one request of a read and returns its answer and stamp.
func call[Q, A any](ctx context.Context, r *reader, read *Read, page string, request *Q,
	send func(context.Context, *connect.Request[Q]) (*connect.Response[A], error),
) (*A, freshet.Revision, error) {
	var stamp client.Stamp
	ctx = client.CaptureStamp(client.AtLeast(client.Strong(ctx), read.AtLeast), &stamp)
	req, key := connect.NewRequest(request), read.Topic+" "+page
	var held tagged
	if r.protocol == byGet {
		r.mu.Lock()
		held = r.kept[key]
		r.mu.Unlock()
		if held.tag != "" {
			req.Header().Set("If-None-Match", held.tag)
		}
	}
	resp, err := send(ctx, req)
	switch {
	case held.tag != "" && connect.IsNotModifiedError(err):
		r.rec.did("304")
		return held.message.(*A), stamp.Revision, nil
	case err != nil:
		return nil, stamp.Revision, err
	}
	if tag := resp.Header().Get("ETag"); tag != "" && r.protocol == byGet {
		r.mu.Lock()
		if len(r.kept) >= maxKept {
			clear(r.kept)
		}
		r.kept[key] = tagged{tag, resp.Msg}
		r.mu.Unlock()
	}
	return resp.Msg, stamp.Revision, nil
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
