package conformance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// goAdapter makes the Go client one that can be judged: commands come from in, and what
// its queries show goes to out.
type goAdapter struct {
	messages messagesv1connect.MessageServiceClient
	followed []followed

	mu  sync.Mutex // guards out
	out io.Writer
}

// followed is what a mutation needs of a query.
type followed struct {
	name   string
	topics []string
	wrote  func(client.Stamp)
}

func runGoAdapter(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var queries sync.WaitGroup
	defer queries.Wait()
	defer cancel()
	a := &goAdapter{out: out}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var c struct {
			Do, URL string
			Queries []struct {
				Name, Procedure string
				Request         json.RawMessage
			}
			Request json.RawMessage
			Touches []string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		if c.Do == "write" {
			if err := a.write(ctx, c.Request, c.Touches); err != nil {
				return err
			}
			continue
		}
		freshetClient, err := client.New(c.URL)
		if err != nil {
			return err
		}
		a.messages = messagesv1connect.NewMessageServiceClient(http.DefaultClient, c.URL, connect.WithProtoJSON(), connect.WithInterceptors(freshetClient.Interceptor()))
		for _, q := range c.Queries {
			var run func()
			var err error
			if q.Procedure == messagesv1connect.MessageServiceGetMessageProcedure {
				run, err = follow(ctx, a, freshetClient, a.messages.GetMessage, q.Name, q.Request, new(messagesv1.GetMessageRequest))
			} else {
				run, err = follow(ctx, a, freshetClient, a.messages.ListMessages, q.Name, q.Request, new(messagesv1.ListMessagesRequest))
			}
			if err != nil {
				return err
			}
			queries.Go(run)
		}
	}
	return nil
}

// follow makes a query; run keeps it fresh, and says what it shows.
func follow[Req, Res any, P interface {
	*Req
	proto.Message
}](ctx context.Context, a *goAdapter, c *client.Client, call func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), name string, text json.RawMessage, req P) (run func(), err error) {
	if err := protojson.Unmarshal(text, req); err != nil {
		return nil, err
	}
	q, err := client.NewQuery(c, call, (*Req)(req))
	if err != nil {
		return nil, err
	}
	a.followed = append(a.followed, followed{name, q.Topics(), q.Wrote})
	return func() {
		var running sync.WaitGroup
		running.Go(func() { _ = q.Run(ctx) }) // until the end, or it is refused
		for s := range q.Changes(ctx) {
			if !s.Loaded() {
				continue
			}
			report := map[string]any{"query": name, "stale": !s.Fresh}
			if s.Err != nil {
				report["error"] = connect.CodeOf(s.Err).String()
			} else if m, ok := any(s.Value).(proto.Message); ok {
				data, _ := protojson.Marshal(m) // it came as JSON
				report["data"] = json.RawMessage(data)
			}
			line, _ := json.Marshal(report)
			a.mu.Lock()
			fmt.Fprintf(a.out, "%s\n", line)
			a.mu.Unlock()
		}
		running.Wait()
	}, nil
}

func (a *goAdapter) write(ctx context.Context, text json.RawMessage, touches []string) error {
	req := new(messagesv1.CreateMessageRequest)
	if err := protojson.Unmarshal(text, req); err != nil {
		return err
	}
	var stamp client.Stamp
	if _, err := a.messages.CreateMessage(client.CaptureStamp(ctx, &stamp), connect.NewRequest(req)); err != nil {
		return err
	}
	for _, q := range a.followed {
		if slices.Contains(touches, q.name) || slices.ContainsFunc(q.topics, func(topic string) bool { return slices.Contains(stamp.Topics, topic) }) {
			q.wrote(stamp)
		}
	}
	return nil
}
