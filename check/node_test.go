package check_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
)

// node is a server of a world, small enough to see that it is right but for its
// flaw.
type node struct {
	messagesv1connect.UnimplementedMessageServiceHandler

	world *world
	hub   *hub.Hub
	flaw  flaw
	url   string

	mu      sync.Mutex // guards all below
	caller  string     // who has read what is theirs last
	kept    map[string]*flight
	flying  map[string]*flight
	replica struct {
		messages map[string]message
		stamp    freshet.Revision
		taken    time.Time
	}
}

// flight is a query, and later its answer.
type flight struct {
	start freshet.Revision // the frontier before its snapshot
	found map[string]message
	done  chan struct{}
	ended time.Time
	torn  bool // the snapshot is of another epoch than start
}

func newNode(t *testing.T, flaw flaw) *node {
	t.Helper()
	n, stop := startNode(flaw)
	t.Cleanup(stop)
	return n
}

// startNode starts one that ends with stop.
func startNode(flaw flaw) (n *node, stop func()) {
	w := newWorld(flaw)
	n = &node{world: w, hub: w.hub, flaw: flaw, kept: map[string]*flight{}, flying: map[string]*flight{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/events", n.events)
	mux.Handle(messagesv1connect.NewMessageServiceHandler(n))
	mux.Handle(n.ownHandler())
	mux.Handle(freshetv1connect.NewInvalidationServiceHandler(watcher{n}))
	server := httptest.NewServer(mux)
	n.url = server.URL
	return n, server.Close
}

func (n *node) read(ctx context.Context, topic string, atLeast freshet.Revision) (map[string]message, freshet.Revision, error) {
	if n.flaw == ignoresAtLeast && !atLeast.IsZero() {
		found, stamp := n.behind(topic)
		return found, stamp, nil
	}
	if !atLeast.IsZero() {
		if err := n.hub.Wait(ctx, atLeast); err != nil {
			return nil, freshet.Revision{}, err
		}
	}
	asked := n.hub.Frontier()
	key, judged := n.callerKey(topic)
	floor := n.hub.Floor([]string{judged})
	answers := func(f *flight, unchecked bool) bool {
		return f != nil && !atLeast.IsZero() && (unchecked || !f.start.Less(floor))
	}
	trusts := n.flaw == trustsCache || n.flaw == trustsCacheOfCounts && topic == "messages" || n.flaw == trustsCacheOfItems && strings.Count(topic, "/") == 3
	n.mu.Lock()
	f := n.kept[key]
	if n.flaw == keepsOverFailover && f != nil && f.start.Epoch < asked.Epoch && !atLeast.IsZero() {
		n.mu.Unlock()
		return f.found, asked, nil
	}
	if answers(f, trusts) && time.Since(f.ended) < time.Second || f != nil && n.flaw == keepsForStrong && f.start == asked {
		n.mu.Unlock()
		return f.found, asked, nil
	}
	f = n.flying[key]
	if answers(f, n.flaw == joinsAny) {
		n.mu.Unlock()
		<-f.done
	} else {
		f = &flight{start: n.hub.Frontier(), done: make(chan struct{})}
		n.flying[key] = f
		n.mu.Unlock()
		n.fly(ctx, topic, key, f, &asked)
	}
	switch {
	case f.torn:
		return nil, freshet.Revision{}, errors.New("it has failed over")
	case n.flaw == oldEpoch && rand.IntN(20) == 0:
		asked.Epoch--
	case n.flaw == stampsNothing && rand.IntN(20) == 0:
		asked = freshet.Revision{}
	}
	return f.found, asked, nil
}

// fly runs a query whose answer takes its time.
func (n *node) fly(ctx context.Context, topic, key string, f *flight, stamp *freshet.Revision) {
	messages, epoch := n.world.everything()
	f.found, f.torn = within(topic, messages), epoch != f.start.Epoch || epoch != stamp.Epoch
	if n.flaw == stampsWAL {
		*stamp = n.world.logEnd()
	}
	pass(context.WithoutCancel(ctx), rand.N(8*time.Millisecond)) // others may have joined
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flying[key] == f {
		delete(n.flying, key)
	}
	f.ended = time.Now()
	if old := n.kept[key]; !f.torn && (old == nil || !f.start.Less(old.start)) {
		n.kept[key] = f
	}
	close(f.done)
}

// within are the messages that a topic's read shows.
func within(of string, messages map[string]message) map[string]message {
	found := map[string]message{}
	for id, m := range messages {
		switch of {
		case "messages", "conversations/-/messages", topic(m.conversation), topic(m.conversation) + "/" + id, ownTopic(m.conversation):
			found[id] = m
		}
	}
	return found
}

// behind answers from a copy that is up to a second old, and says so. It must be
// older than the time between two reads, and from one page to the next, which on a
// busy machine is long.
func (n *node) behind(topic string) (map[string]message, freshet.Revision) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.replica.taken) > time.Second {
		n.replica.stamp = n.hub.Frontier()
		n.replica.messages, _ = n.world.everything()
		n.replica.taken = time.Now()
	}
	return within(topic, n.replica.messages), n.replica.stamp
}

// answer answers a read, or fails as the real server does.
func answer[Q, A any](ctx context.Context, n *node, req *connect.Request[Q], topic string, of func(map[string]message) (*A, error)) (*connect.Response[A], error) {
	var atLeast freshet.Revision
	ignores := n.flaw == ignoresAtLeastByGet && req.HTTPMethod() == http.MethodGet
	if text := req.Header().Get("Freshet-At-Least"); text != "" && !ignores {
		if atLeast = revision(text); atLeast.IsZero() {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no revision"))
		}
	}
	found, stamp, err := n.read(ctx, topic, atLeast)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	if ignores {
		found, stamp = n.behind(topic)
	}
	message, err := of(found)
	if err != nil {
		failed := connect.NewError(connect.CodeNotFound, err)
		failed.Meta().Set("Freshet-Revision", stamp.String())
		return nil, failed
	}
	resp := connect.NewResponse(message)
	resp.Header().Set("Freshet-Revision", stamp.String())
	if req.HTTPMethod() != http.MethodGet {
		return resp, nil
	}
	tag := n.tag(topic, found)
	if asked := req.Header().Get("If-None-Match"); asked == tag || asked != "" && n.flaw == saysNotModified {
		return nil, connect.NewNotModifiedError(http.Header{"Freshet-Revision": {stamp.String()}, "Etag": {tag}})
	}
	resp.Header().Set("ETag", tag)
	return resp, nil
}

// tag names an answer's content.
func (n *node) tag(topic string, found map[string]message) string {
	if n.flaw == tagsByNumber || n.flaw == tagsForAll && strings.HasPrefix(topic, callersTopic) {
		return fmt.Sprintf(`"%d"`, len(found))
	}
	return fmt.Sprintf("%q", fmt.Sprintf("%x", fmt.Sprint(found))) // maps are printed in order
}

func (n *node) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	return answer(ctx, n, req, req.Msg.GetParent()+"/messages", func(found map[string]message) (*messagesv1.ListMessagesResponse, error) {
		list := &messagesv1.ListMessagesResponse{}
		last := ""
		if n.flaw == turnsToOldPages && req.Msg.GetPageToken() != "" {
			found, _ = n.behind(req.Msg.GetParent() + "/messages")
		}
		for _, id := range slices.Sorted(maps.Keys(found)) {
			if id <= req.Msg.GetPageToken() {
				continue
			}
			if len(list.Messages) == int(req.Msg.GetPageSize()) {
				list.NextPageToken = last
				break
			}
			last = id
			if n.flaw == leavesOneOut && req.Msg.GetParent() == "conversations/-" && rand.IntN(100) == 0 {
				continue
			}
			list.Messages = append(list.Messages, found[id].proto(id))
		}
		return list, nil
	})
}

func (n *node) ListConversations(ctx context.Context, req *connect.Request[messagesv1.ListConversationsRequest]) (*connect.Response[messagesv1.ListConversationsResponse], error) {
	return answer(ctx, n, req, "messages", func(found map[string]message) (*messagesv1.ListConversationsResponse, error) {
		counts := map[string]int64{}
		for _, m := range found {
			if counts[m.conversation]++; n.flaw == countsTooMany && rand.IntN(100) == 0 {
				counts[m.conversation]++
			}
		}
		list := &messagesv1.ListConversationsResponse{}
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			list.Conversations = append(list.Conversations, &messagesv1.Conversation{Name: "conversations/" + name, MessageCount: counts[name]})
		}
		return list, nil
	})
}

func (n *node) GetMessage(ctx context.Context, req *connect.Request[messagesv1.GetMessageRequest]) (*connect.Response[messagesv1.GetMessageResponse], error) {
	return answer(ctx, n, req, req.Msg.GetName(), func(found map[string]message) (*messagesv1.GetMessageResponse, error) {
		for id, m := range found {
			if n.flaw == findsNothing && rand.IntN(20) == 0 {
				break
			}
			return &messagesv1.GetMessageResponse{Message: m.proto(id)}, nil
		}
		return nil, errors.New("no such message")
	})
}

func (m message) proto(id string) *messagesv1.Message {
	return &messagesv1.Message{Name: topic(m.conversation) + "/" + id, Body: m.body}
}

func (n *node) CreateMessage(ctx context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	conversation := strings.TrimPrefix(req.Msg.GetParent(), "conversations/")
	name := topic(conversation) + "/" + n.world.newID()
	return write(ctx, n, name, &message{conversation, req.Msg.GetMessage().GetBody()}, &messagesv1.CreateMessageResponse{Message: &messagesv1.Message{Name: name}})
}

func (n *node) UpdateMessage(ctx context.Context, req *connect.Request[messagesv1.UpdateMessageRequest]) (*connect.Response[messagesv1.UpdateMessageResponse], error) {
	name := req.Msg.GetMessage().GetName()
	return write(ctx, n, name, &message{strings.Split(name, "/")[1], req.Msg.GetMessage().GetBody()}, &messagesv1.UpdateMessageResponse{})
}

func (n *node) DeleteMessage(ctx context.Context, req *connect.Request[messagesv1.DeleteMessageRequest]) (*connect.Response[messagesv1.DeleteMessageResponse], error) {
	return write(ctx, n, req.Msg.GetName(), nil, &messagesv1.DeleteMessageResponse{})
}

// write settles as the real one does: the answer comes when reads contain it.
func write[A any](ctx context.Context, n *node, name string, m *message, a *A) (*connect.Response[A], error) {
	defer n.world.write(check.Manner{})()
	before := n.hub.Frontier()
	id := name[strings.LastIndexByte(name, '/')+1:]
	if _, creates := any(a).(*messagesv1.CreateMessageResponse); n.world.has(id) == creates {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such message"))
	}
	topics := n.world.topicsOf(id, strings.Split(name, "/")[1])
	at := n.world.commit(ctx, topics, func() {
		if delete(n.world.messages, id); m != nil {
			n.world.messages[id] = *m
		}
	})
	stamp := at
	if err := n.hub.Wait(ctx, at); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("not settled"))
	}
	switch n.flaw {
	case stampsBefore:
		stamp = before
	case stampsEndedEpoch:
		if stamp.Epoch > epoch && rand.IntN(5) == 0 {
			stamp.Epoch-- // which there has been
		}
	case namesTheFirst:
		topics = topics[:1]
	}
	resp := connect.NewResponse(a)
	resp.Header().Set("Freshet-Revision", stamp.String())
	resp.Header().Set("Freshet-Topics", strings.Join(topics, ","))
	return resp, nil
}
