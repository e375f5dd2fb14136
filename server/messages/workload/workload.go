// Package workload tells package check what the message service looks like: messages
// are rows, conversations are places, and a message's body holds the checker's cell.
package workload

import (
	"strings"

	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// Author is who the checker's messages are of.
const Author = "freshet check"

// Messages is the whole message service. Each call makes a new one.
func Messages() check.Workload {
	list := check.NewQuery(messagesv1connect.MessageServiceListMessagesProcedure,
		func(a check.Ask) *messagesv1.ListMessagesRequest {
			return &messagesv1.ListMessagesRequest{Parent: strings.TrimSuffix(a.Topic, "/messages"), PageSize: int32(a.PageSize), PageToken: a.PageToken}
		},
		func(a *messagesv1.ListMessagesResponse) (page check.Page) {
			for _, m := range a.GetMessages() {
				page.Add(conversationOf(m), m.GetBody())
			}
			page.Next = a.GetNextPageToken()
			return page
		})
	return check.Workload{
		Topics: []check.Topic{
			{Kind: check.OfPlace, Name: "conversations/{conversation}/messages", Read: list.As("ListMessages of a conversation")},
			{Kind: check.OfItem, Name: "conversations/{conversation}/messages/{id}", Read: get()},
			{Kind: check.OfAll, Name: "conversations/-/messages", Read: list.As("ListMessages of all conversations")},
			{Kind: check.OfCounts, Name: "messages", Read: conversations()},
		},
		Create: check.NewMutation(messagesv1connect.MessageServiceCreateMessageProcedure,
			func(r check.Row) *messagesv1.CreateMessageRequest {
				return &messagesv1.CreateMessageRequest{
					Parent: "conversations/" + r.Place, Message: &messagesv1.Message{Author: Author, Body: r.Cell.String()},
				}
			},
			func(a *messagesv1.CreateMessageResponse) string {
				name := a.GetMessage().GetName()
				return name[strings.LastIndexByte(name, '/')+1:]
			}),
		Update: check.NewMutation[messagesv1.UpdateMessageRequest, messagesv1.UpdateMessageResponse](messagesv1connect.MessageServiceUpdateMessageProcedure,
			func(r check.Row) *messagesv1.UpdateMessageRequest {
				return &messagesv1.UpdateMessageRequest{Message: &messagesv1.Message{Name: nameOf(r), Body: r.Cell.String()}}
			}, nil),
		Delete: check.NewMutation[messagesv1.DeleteMessageRequest, messagesv1.DeleteMessageResponse](messagesv1connect.MessageServiceDeleteMessageProcedure,
			func(r check.Row) *messagesv1.DeleteMessageRequest {
				return &messagesv1.DeleteMessageRequest{Name: nameOf(r)}
			}, nil),
		Table: check.Table{
			Name: "public.messages", ID: "id", Place: "conversation", Cell: "body",
			Others: map[string]any{"author": Author},
		},
	}
}

func get() check.Query {
	return check.NewQuery(messagesv1connect.MessageServiceGetMessageProcedure,
		func(a check.Ask) *messagesv1.GetMessageRequest { return &messagesv1.GetMessageRequest{Name: a.Topic} },
		func(a *messagesv1.GetMessageResponse) (page check.Page) {
			page.Add(conversationOf(a.GetMessage()), a.GetMessage().GetBody())
			return page
		})
}

func conversations() check.Query {
	return check.NewQuery(messagesv1connect.MessageServiceListConversationsProcedure,
		func(a check.Ask) *messagesv1.ListConversationsRequest {
			return &messagesv1.ListConversationsRequest{PageSize: int32(a.PageSize), PageToken: a.PageToken}
		},
		func(a *messagesv1.ListConversationsResponse) (page check.Page) {
			for _, c := range a.GetConversations() {
				page.Counts = append(page.Counts, check.Count{Place: strings.TrimPrefix(c.GetName(), "conversations/"), N: int(c.GetMessageCount())})
			}
			page.Next = a.GetNextPageToken()
			return page
		})
}

func conversationOf(m *messagesv1.Message) string {
	conversation, _, _ := strings.Cut(strings.TrimPrefix(m.GetName(), "conversations/"), "/")
	return conversation
}

func nameOf(r check.Row) string { return "conversations/" + r.Place + "/messages/" + r.ID }
