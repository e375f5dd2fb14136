package check_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/server/messages/workload"
)

// ownProcedure reads the messages of the conversation that is called as the caller is. Its
// request is the same for everybody.
const ownProcedure = "/messages.v1.MessageService/ListOwnMessages"

// withCallers is the message service with a read whose topic takes a claim.
func withCallers() check.Workload {
	w := workload.Messages()
	w.Topics = append(w.Topics, check.Topic{
		Kind: check.OfCaller, Name: "callers/{principal.sub}/messages",
		Read: check.NewQuery(ownProcedure,
			func(a check.Ask) *messagesv1.ListMessagesRequest {
				return &messagesv1.ListMessagesRequest{Parent: a.Place, PageSize: int32(a.PageSize), PageToken: a.PageToken}
			},
			func(a *messagesv1.ListMessagesResponse) (page check.Page) {
				for _, m := range a.GetMessages() {
					page.Add("", m.GetBody())
				}
				page.Next = a.GetNextPageToken()
				return page
			}),
	})
	return w
}

// tokenOf is a caller's token: its claim.
func tokenOf(_ context.Context, place string) (string, error) { return place, nil }

const callersTopic = "callers/"

func ownTopic(sub string) string { return callersTopic + sub + "/messages" }

func (n *node) ownHandler() (path string, handler http.Handler) {
	return ownProcedure, connect.NewUnaryHandler(ownProcedure, n.listOwn, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
}

func (n *node) listOwn(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	sub := strings.TrimPrefix(req.Header().Get("Authorization"), "Bearer ")
	resp, err := answer(ctx, n, req, ownTopic(sub), func(found map[string]message) (*messagesv1.ListMessagesResponse, error) {
		list := &messagesv1.ListMessagesResponse{}
		for _, id := range slices.Sorted(maps.Keys(found)) {
			if id <= req.Msg.GetPageToken() {
				continue
			}
			if len(list.Messages) == int(req.Msg.GetPageSize()) {
				list.NextPageToken = list.Messages[len(list.Messages)-1].GetName()
				break
			}
			list.Messages = append(list.Messages, &messagesv1.Message{Name: id, Body: found[id].body})
		}
		return list, nil
	})
	principal := "sub=" + sub
	switch n.flaw {
	case namesAnother:
		principal = "sub=" + n.other(sub)
	case namesNobody:
		return resp, err
	}
	if failed, ok := err.(*connect.Error); ok { //nolint:errorlint // it is made here
		failed.Meta().Set("Freshet-Principal", principal)
	} else {
		resp.Header().Set("Freshet-Principal", principal)
	}
	return resp, err
}

// other is a caller who isn't this one, or has been once.
func (n *node) other(sub string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.caller
	n.caller = sub
	return before
}

// callerKey is where an answer to a caller is kept, and who it is judged by.
func (n *node) callerKey(topic string) (key, judged string) {
	if !strings.HasPrefix(topic, callersTopic) {
		return topic, topic
	}
	switch n.flaw {
	case sharesCallers:
		return callersTopic, topic
	case judgesByAnother:
		return topic, ownTopic(fmt.Sprint("nobody", len(topic)))
	default:
		return topic, topic
	}
}
