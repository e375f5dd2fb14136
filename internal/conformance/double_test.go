package conformance_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/stream"
)

// double is a server in memory that keeps the protocol, small enough to see that it
// does: the real stream on a hub that is written to directly, and messages in a map.
type double struct {
	messagesv1connect.UnimplementedMessageServiceHandler

	hub  *hub.Hub
	flaw string // what the handlers do wrong; most flaws are in front of it
	late chan lateCommit

	mu       sync.Mutex // guards all below
	position uint64
	messages map[string][]string           // bodies by parent
	changes  map[string][]freshet.Revision // by parent
}

const (
	doubleEpoch  = 0x6743b2c1
	doubleBegins = 0x1000 // position
)

// late in the place of a flaw: writes are stamped above their commits, and are told some
// time after they have returned, as the protocol lets a server do. Reads at-least wait.
const late = "late"

// seldom in the place of a flaw: late, with the heartbeat of seldomBeats. What a stamp says
// beyond the last notice, only a heartbeat passes.
const (
	seldom      = "seldom"
	seldomBeats = 4 * time.Second
)

// lateCommit is what is still to be told.
type lateCommit struct {
	freshet.Commit
	need freshet.Revision
	at   time.Time
}

// tellLate tells commits, in their order.
func (d *double) tellLate() {
	for c := range d.late {
		time.Sleep(time.Until(c.at))
		d.hub.Publish(c.Commit)
		d.hub.Advance(c.need)
	}
}

// start is the revision that a double begins at.
var start = freshet.Revision{Epoch: doubleEpoch, Position: doubleBegins}.String()

// startDouble starts one, behind what is in front. It ends with stop.
func startDouble(flaw string, front front) (address string, stop func(), err error) {
	d := &double{hub: hub.New(hub.Config{}), flaw: flaw, position: doubleBegins, messages: map[string][]string{}, changes: map[string][]freshet.Revision{}}
	end := func() {}
	heartbeat := 100 * time.Millisecond
	if flaw == seldom {
		heartbeat = seldomBeats
	}
	if flaw == late || flaw == seldom {
		d.late = make(chan lateCommit, 10_000) // more than are written
		var telling sync.WaitGroup
		telling.Go(d.tellLate)
		end = func() {
			close(d.late)
			telling.Wait()
		}
	}
	begin := freshet.Revision{Epoch: doubleEpoch, Position: doubleBegins}
	d.hub.Begin(begin)
	d.hub.Serve(begin)
	d.hub.Current(time.Now().Add(time.Hour)) // it never lags
	events, err := stream.New(stream.Config{
		Hub: d.hub, Heartbeat: heartbeat, Contract: "c", KeepHandler: true,
		InsertPosition: func(context.Context) (freshet.Revision, error) { return d.written(), nil },
		CheckTopic: func(topic string) *connect.Error {
			if flaw == "follows other spellings" {
				return nil
			}
			return misspelled(topic)
		},
	})
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/events", events)
	mux.Handle(messagesv1connect.NewMessageServiceHandler(d))
	mux.Handle(events.WatchHandler())
	server := httptest.NewUnstartedServer(front(named(mux)))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	return server.URL, func() {
		server.Close()
		end()
	}, nil
}

// named gives each answer the request's id.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if id == "" {
			id = "made"
		}
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r)
	})
}

// bare has what is required, in HTTP/1.1 and Connect's JSON, and nothing else.
func bare(next http.Handler) http.Handler {
	next = answers(all, func(h http.Header, _ int) {
		for _, name := range []string{"Freshet-Cache", "Freshet-Topics", "X-Request-Id"} {
			h.Del(name)
		}
	})(next)
	for _, beyond := range []about{overHTTP2, watches, content("application/grpc+json"), content("application/grpc-web+json")} {
		next = refuses(beyond, http.StatusNotFound, `{}`)(next)
	}
	return next
}

// misspelled refuses what is about a message whose id has capitals; nil: it isn't.
func misspelled(name string) *connect.Error {
	if name == strings.ToLower(name) || !strings.Contains(name, "/messages/") {
		return nil
	}
	return failure(connect.CodeInvalidArgument, &errdetails.ErrorInfo{Domain: "freshet.dev", Reason: "TOPIC_SPELLING"})
}

// failure is an error with a detail.
func failure(code connect.Code, detail proto.Message) *connect.Error {
	err := connect.NewError(code, errors.New("not so"))
	if d, bad := connect.NewErrorDetail(detail); bad == nil {
		err.AddDetail(d)
	}
	return err
}

// ofCaller in the place of a flaw: the topics of a read take a claim of the caller.
const ofCaller = "of caller"

// topic is what a list depends on.
func (d *double) topic(parent string) string {
	if d.flaw == ofCaller {
		return "orgs/a%20b/" + parent + "/messages"
	}
	return parent + "/messages"
}

// cause is the newest change of a list up to a revision.
func (d *double) cause(parent string, upTo freshet.Revision) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, at := range slices.Backward(d.changes[parent]) {
		if !upTo.Less(at) {
			return fmt.Sprintf(`change=insert, topic="%s", table="messages", rows=1, revision="%s"`, strings.ReplaceAll(d.topic(parent), "%", "%25"), at)
		}
	}
	return "change=unknown"
}

// written is the highest position that is known to anybody.
func (d *double) written() freshet.Revision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return freshet.Revision{Epoch: doubleEpoch, Position: d.position}
}

// reach is what becomes of a request's at-least.
func (d *double) reach(ctx context.Context, h http.Header) (freshet.Revision, error) {
	now := d.hub.Frontier()
	unknown := failure(connect.CodeInvalidArgument, &errdetails.ErrorInfo{Domain: "freshet.dev", Reason: "AT_LEAST_UNKNOWN"})
	var highest freshet.Revision
	for text := range strings.SplitSeq(strings.Join(h.Values("Freshet-At-Least"), ","), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		rev, err := freshet.ParseRevision(text)
		if err != nil {
			return now, unknown
		}
		highest = highest.Max(rev)
	}
	switch {
	case highest.IsZero():
		return now, nil
	case highest.Epoch < now.Epoch:
		info := &errdetails.ErrorInfo{Domain: "freshet.dev", Reason: "EPOCH_CHANGED"}
		if d.flaw != "no metadata" {
			info.Metadata = map[string]string{"epoch": now.String()[:8], "revision": now.String()}
		}
		return now, failure(connect.CodeFailedPrecondition, info)
	case highest.Epoch > now.Epoch:
		retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
		if d.flaw == "no wait" {
			retry.RetryDelay = nil
		}
		return now, failure(connect.CodeUnavailable, retry)
	case d.written().Less(highest):
		return now, unknown
	}
	return now.Max(highest), d.hub.Wait(ctx, highest)
}

// ListMessages is the read.
func (d *double) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	now, err := d.reach(ctx, req.Header())
	if err != nil {
		return nil, err
	}
	list := &messagesv1.ListMessagesResponse{}
	isGet, asked := req.HTTPMethod() == http.MethodGet, req.Header().Get("Freshet-At-Least") != ""
	if d.flaw != "empty at-least" || isGet || !asked {
		d.mu.Lock()
		for _, body := range d.messages[req.Msg.GetParent()] {
			list.Messages = append(list.Messages, &messagesv1.Message{Body: body})
		}
		d.mu.Unlock()
	}
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(fmt.Sprint(list.GetMessages()))))
	given := req.Header().Get("If-None-Match")
	if isGet && (given == tag && (d.flaw != "no 304" || asked) || d.flaw == "always 304" && given != "" && !asked) {
		return nil, connect.NewNotModifiedError(http.Header{"Freshet-Revision": {now.String()}, "Etag": {tag}})
	}
	resp := connect.NewResponse(list)
	resp.Header().Set("Freshet-Revision", now.String())
	resp.Header().Set("Freshet-Cache", "miss")
	if d.flaw == ofCaller {
		resp.Header().Set("Freshet-Principal", "org_id=a%20b")
	}
	if upTo, err := freshet.ParseRevision(req.Header().Get("Freshet-At-Least")); err == nil {
		resp.Header().Set("Freshet-Cause", d.cause(req.Msg.GetParent(), upTo))
	}
	if isGet {
		resp.Header().Set("ETag", tag)
	}
	return resp, nil
}

// GetMessage finds none.
func (d *double) GetMessage(ctx context.Context, req *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	if err := misspelled(req.Msg.GetName()); err != nil && d.flaw != "looks for other spellings" {
		return nil, err
	}
	now, err := d.reach(ctx, req.Header())
	if err != nil {
		return nil, err
	}
	none := connect.NewError(connect.CodeNotFound, errors.New("no such message"))
	if d.flaw != "no stamp on errors of "+req.Peer().Protocol {
		none.Meta().Set("Freshet-Revision", now.String())
	}
	return nil, none
}

// CreateMessage is the write.
func (d *double) CreateMessage(_ context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	parent := req.Msg.GetParent()
	topics := []string{"messages", d.topic(parent)}
	d.mu.Lock()
	d.position = d.position&^7 + 8
	at := freshet.Revision{Epoch: doubleEpoch, Position: d.position}
	d.messages[parent] = append(slices.Clip(d.messages[parent]), req.Msg.GetMessage().GetBody())
	d.changes[parent] = append(d.changes[parent], at)
	commit := freshet.Commit{Revision: at, Topics: slices.Clone(topics)}
	if d.late != nil {
		const byUs = 50 * time.Millisecond
		at.Position += 4
		d.position = at.Position
		d.late <- lateCommit{commit, at, time.Now().Add(byUs)}
	} else {
		d.hub.Publish(commit)
	}
	d.mu.Unlock()
	if d.flaw == "early need" {
		at.Position--
	}
	if d.flaw == "first topic" {
		topics = topics[:1]
	}
	for i := range topics {
		topics[i] = url.PathEscape(topics[i])
	}
	resp := connect.NewResponse(&messagesv1.CreateMessageResponse{Message: &messagesv1.Message{Name: parent + "/messages/" + strconv.FormatUint(at.Position, 10)}})
	resp.Header().Set("Freshet-Revision", at.String())
	resp.Header().Set("Freshet-Topics", strings.Join(topics, ","))
	return resp, nil
}
