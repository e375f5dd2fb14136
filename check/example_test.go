package check_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// A service of one's own is described by a workload: here one whose rows are messages
// and whose places are conversations. One topic, a read and a write by RPC, and a
// table are enough; each further one has the checker ask for more.
func ExampleRun() {
	server, stop := startNode(none) // yours
	defer stop()
	w := check.Workload{
		Topics: []check.Topic{{
			Kind: check.OfPlace,
			Name: "conversations/{conversation}/messages", // as in the contract
			Read: check.NewQuery(messagesv1connect.MessageServiceListMessagesProcedure,
				func(a check.Ask) *messagesv1.ListMessagesRequest {
					return &messagesv1.ListMessagesRequest{Parent: "conversations/" + a.Place, PageSize: int32(a.PageSize), PageToken: a.PageToken}
				},
				func(a *messagesv1.ListMessagesResponse) (page check.Page) {
					for _, m := range a.GetMessages() {
						page.Add("", m.GetBody()) // the place counts where an answer shows several
					}
					page.Next = a.GetNextPageToken()
					return page
				}),
		}},
		Create: check.NewMutation(messagesv1connect.MessageServiceCreateMessageProcedure,
			func(r check.Row) *messagesv1.CreateMessageRequest {
				return &messagesv1.CreateMessageRequest{
					Parent: "conversations/" + r.Place, Message: &messagesv1.Message{Author: "checker", Body: r.Cell.String()},
				}
			},
			func(a *messagesv1.CreateMessageResponse) string {
				return a.GetMessage().GetName()[strings.LastIndexByte(a.GetMessage().GetName(), '/')+1:]
			}),
		Table: check.Table{Name: "public.messages", ID: "id", Place: "conversation", Cell: "body", Others: map[string]any{"author": "checker"}},
	}
	cfg := check.Config{URL: server.url, Workload: w, Run: check.RunName(), Duration: time.Second, Clients: 10, Patience: time.Minute}
	// With the server's database the checker sees more, and cleans up after itself:
	// set cfg.Database to check.OpenPostgres(ctx, url, cfg.Run, w.Table), and in the end
	// call its Close(ctx, cfg.PlaceNames()).
	report, err := check.Run(context.Background(), cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range report.Verdicts { // report.WriteText tells all
		fmt.Println(v.Rule, v.Name+":", v.Violations, "violations")
	}
	// Output:
	// G1 visible before told: 0 violations
	// G2 nothing lost: 0 violations
	// G3 convergence: 0 violations
	// G4 never backwards: 0 violations
	// G5 read your writes: 0 violations
	// G6 honest stamps: 0 violations
}

// The rules are pure: what they say of a history doesn't depend on how it came about.
func ExampleJudge() {
	h, err := check.ParseHistory(strings.NewReader(`
		1..2  sql-1     write committed r1@1:>a at=1-10
		3     client-1  invalidate 1-10 a
		4..5  client-1  read a at-least=1-10 stamp=1-10 shows -`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range check.Judge(h) {
		if v.Violations > 0 {
			fmt.Println(v.Rule, v.Name+":", v.Shortest.What)
		}
	}
	// Output:
	// G1 visible before told: client-1 was told 00000001-0000000000000010; the later read of a by client-1 doesn't show r1@1 of sql-1
	// G6 honest stamps: an answer stamped 00000001-0000000000000010 doesn't show r1@1 of sql-1
}
