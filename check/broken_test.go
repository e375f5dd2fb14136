package check_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/check"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
)

// flaw is what is wrong with a node.
type flaw string

const (
	none           flaw = "nothing"
	drops          flaw = "drops one notice in a hundred"
	tellsEarly     flaw = "tells before visible"
	joinsAny       flaw = "joins a flight below the floor"
	trustsCache    flaw = "caches without validation"
	stampsWAL      flaw = "stamps from the end of the log"
	losesAtResume  flaw = "loses events at resume"
	reorders       flaw = "reorders"
	ignoresAtLeast flaw = "ignores at-least"
	oldEpoch       flaw = "answers with an old epoch"
	readyEarly     flaw = "ready before catch-up"
)

// TestRun_brokenServers: the judge is judged. Each broken double of a server is
// caught by the rule that it breaks, and the same double without a flaw is not.
func TestRun_brokenServers(t *testing.T) {
	for flaw, rule := range map[flaw]string{
		none: "", drops: "G2", tellsEarly: "G1", joinsAny: "G6", trustsCache: "G6", stampsWAL: "G6",
		losesAtResume: "G2", reorders: "G4", ignoresAtLeast: "G1", oldEpoch: "G4", readyEarly: "G2",
	} {
		t.Run(string(flaw), func(t *testing.T) {
			t.Parallel()
			n := newNode(t, flaw)
			report, broken := judge(t, n, 1)
			// Three seconds are enough as a rule; where the machine has no time
			// for clients, one goes on for the minute that is promised.
			for seed, end := uint64(2), time.Now().Add(50*time.Second); rule != "" && broken[rule] == 0 && time.Now().Before(end); seed++ {
				report, broken = judge(t, n, seed)
			}
			var text strings.Builder
			require.NoError(t, report.WriteText(&text))
			if flaw == none {
				require.Empty(t, broken, text.String())
				require.Positive(t, report.Notice.N)
				require.Positive(t, report.Data.N)
				return
			}
			require.Contains(t, broken, rule, text.String())
			t.Logf("%s: %v", flaw, broken)
		})
	}
}

// judge runs the checker for three seconds; broken counts violations.
func judge(t *testing.T, n *node, seed uint64) (report *check.Report, broken map[string]int) {
	t.Helper()
	cfg := check.Config{
		URL: n.url, Database: n.world, Run: fmt.Sprintf("test%d", seed), Seed: seed, Duration: 3 * time.Second, Round: 3 * time.Second,
		Clients: 12, Conversations: 6, Writers: 3, Rate: 120,
	}
	if n.flaw == none {
		cfg.Patience = time.Minute // a busy machine is no flaw
	}
	report, err := check.Run(t.Context(), cfg)
	require.NoError(t, err)
	broken = map[string]int{}
	for _, v := range report.Verdicts {
		require.Positive(t, v.Observations, v.Rule)
		if v.Violations > 0 {
			broken[v.Rule] = v.Violations
			requireShown(t, v)
		}
	}
	return report, broken
}

// requireShown: the excerpt is short, and condemned by the same rule.
func requireShown(t *testing.T, v check.Verdict) {
	t.Helper()
	text := v.Shortest.Excerpt.String()
	require.LessOrEqual(t, strings.Count(text, "\n"), 8, text)
	require.Positive(t, verdict(t, parse(t, text), v.Rule).Violations, "%s: the excerpt shows nothing:\n%s", v.Rule, text)
}

// node is a server of a world, small enough to see that it is right but for its
// flaw.
type node struct {
	messagesv1connect.UnimplementedMessageServiceHandler

	world *world
	hub   *hub.Hub
	flaw  flaw
	url   string

	mu      sync.Mutex // guards all below
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
	start  freshet.Revision // the frontier before its snapshot
	bodies []string
	done   chan struct{}
	ended  time.Time
}

func newNode(t *testing.T, flaw flaw) *node {
	t.Helper()
	w := newWorld(flaw)
	n := &node{world: w, hub: w.hub, flaw: flaw, kept: map[string]*flight{}, flying: map[string]*flight{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", n.events)
	mux.Handle(messagesv1connect.NewMessageServiceHandler(n))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

const heartbeat = 2 * time.Second

func (n *node) events(w http.ResponseWriter, r *http.Request) {
	var since hub.Since
	for _, text := range []string{r.URL.Query().Get("since"), r.Header.Get("Last-Event-ID")} {
		if rev, err := freshet.ParseRevision(text); err == nil && n.flaw != losesAtResume {
			since.All = rev
		}
	}
	sub, err := n.hub.Subscribe(r.URL.Query()["topic"], since)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event string, rev freshet.Revision, rest string) {
		_, _ = fmt.Fprintf(w, "id: %s\nevent: %s\ndata: {\"revision\":%q%s}\n\n", rev, event, rev.String(), rest) // the client went
		_ = http.NewResponseController(w).Flush()
	}
	invalidate := func(told hub.Notice) {
		if len(told.Topics) > 0 {
			send("invalidate", told.Revision, `,"topics":["`+strings.Join(told.Topics, `","`)+`"]`)
		}
	}
	caughtUp := sub.Take()
	if n.flaw != readyEarly {
		invalidate(caughtUp)
	}
	send("ready", caughtUp.Frontier, fmt.Sprintf(`,"heartbeat_ms":%d`, heartbeat.Milliseconds()))
	if n.flaw == readyEarly {
		invalidate(caughtUp)
	}
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	var held *hub.Notice
	for {
		beat := false
		select {
		case <-r.Context().Done():
			return
		case <-sub.Wake():
		case <-ticker.C:
			beat = true
		}
		told := sub.Take()
		switch {
		case n.flaw == drops && rand.IntN(100) == 0:
			continue
		case n.flaw == reorders && held == nil && rand.IntN(10) == 0:
			held = &told
			continue
		}
		invalidate(told)
		if held != nil {
			invalidate(*held)
			held = nil
		}
		if beat {
			send("frontier", told.Frontier, `,"lag_ms":0`)
		}
	}
}

// stamped is a response with its stamp.
func stamped[T any](message *T, rev freshet.Revision) *connect.Response[T] {
	resp := connect.NewResponse(message)
	resp.Header().Set("Freshet-Revision", rev.String())
	return resp
}

func (n *node) ListMessages(ctx context.Context, req *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	var atLeast freshet.Revision
	if text := req.Header().Get("Freshet-At-Least"); text != "" {
		var err error
		if atLeast, err = freshet.ParseRevision(text); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
	}
	bodies, stamp, err := n.read(ctx, strings.TrimPrefix(req.Msg.GetParent(), "conversations/"), atLeast)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	answer := &messagesv1.ListMessagesResponse{}
	for _, body := range bodies {
		answer.Messages = append(answer.Messages, &messagesv1.Message{Body: body})
	}
	return stamped(answer, stamp), nil
}

func (n *node) read(ctx context.Context, conversation string, atLeast freshet.Revision) ([]string, freshet.Revision, error) {
	if n.flaw == ignoresAtLeast && !atLeast.IsZero() {
		return n.behind(conversation)
	}
	if !atLeast.IsZero() {
		if err := n.hub.Wait(ctx, atLeast); err != nil {
			return nil, freshet.Revision{}, err
		}
	}
	asked := n.hub.Frontier()
	floor := n.hub.Floor([]string{topic(conversation)})
	answers := func(f *flight, unchecked bool) bool {
		return f != nil && !atLeast.IsZero() && (unchecked || !f.start.Less(floor))
	}
	n.mu.Lock()
	if f := n.kept[conversation]; answers(f, n.flaw == trustsCache) && time.Since(f.ended) < time.Second/20 {
		n.mu.Unlock()
		return f.bodies, asked, nil
	}
	f := n.flying[conversation]
	if answers(f, n.flaw == joinsAny) {
		n.mu.Unlock()
		<-f.done
	} else {
		f = &flight{start: n.hub.Frontier(), done: make(chan struct{})}
		n.flying[conversation] = f
		n.mu.Unlock()
		n.fly(ctx, conversation, f, &asked)
	}
	if n.flaw == oldEpoch && rand.IntN(20) == 0 {
		asked.Epoch--
	}
	return f.bodies, asked, nil
}

// fly runs a query whose answer takes its time.
func (n *node) fly(ctx context.Context, conversation string, f *flight, stamp *freshet.Revision) {
	f.bodies = n.world.bodies(conversation)
	if n.flaw == stampsWAL {
		*stamp = n.world.logEnd()
	}
	pass(context.WithoutCancel(ctx), rand.N(8*time.Millisecond)) // others may have joined
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flying[conversation] == f {
		delete(n.flying, conversation)
	}
	f.ended = time.Now()
	if old := n.kept[conversation]; old == nil || !f.start.Less(old.start) {
		n.kept[conversation] = f
	}
	close(f.done)
}

// behind answers from a copy that is up to 40 ms old, and says so.
func (n *node) behind(conversation string) ([]string, freshet.Revision, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.replica.taken) > 40*time.Millisecond {
		n.replica.stamp = n.hub.Frontier()
		n.replica.messages, n.replica.taken = n.world.everything(), time.Now()
	}
	var bodies []string
	for _, m := range n.replica.messages {
		if m.conversation == conversation {
			bodies = append(bodies, m.body)
		}
	}
	return bodies, n.replica.stamp, nil
}

func (n *node) CreateMessage(ctx context.Context, req *connect.Request[messagesv1.CreateMessageRequest]) (*connect.Response[messagesv1.CreateMessageResponse], error) {
	conversation := strings.TrimPrefix(req.Msg.GetParent(), "conversations/")
	name := req.Msg.GetParent() + "/messages/" + n.world.newID()
	stamp, err := n.write(ctx, name, &message{conversation, req.Msg.GetMessage().GetBody()})
	return stamped(&messagesv1.CreateMessageResponse{Message: &messagesv1.Message{Name: name}}, stamp), err
}

func (n *node) UpdateMessage(ctx context.Context, req *connect.Request[messagesv1.UpdateMessageRequest]) (*connect.Response[messagesv1.UpdateMessageResponse], error) {
	name := req.Msg.GetMessage().GetName()
	stamp, err := n.write(ctx, name, &message{strings.Split(name, "/")[1], req.Msg.GetMessage().GetBody()})
	return stamped(&messagesv1.UpdateMessageResponse{}, stamp), err
}

func (n *node) DeleteMessage(ctx context.Context, req *connect.Request[messagesv1.DeleteMessageRequest]) (*connect.Response[messagesv1.DeleteMessageResponse], error) {
	stamp, err := n.write(ctx, req.Msg.GetName(), nil)
	return stamped(&messagesv1.DeleteMessageResponse{}, stamp), err
}

// write settles as the real one does: the answer comes when reads contain it.
func (n *node) write(ctx context.Context, name string, m *message) (freshet.Revision, error) {
	at := n.world.commit(ctx, []string{strings.Split(name, "/")[1]}, func() {
		if delete(n.world.messages, name); m != nil {
			n.world.messages[name] = *m
		}
	})
	if err := n.hub.Wait(ctx, at); err != nil {
		return at, connect.NewError(connect.CodeUnavailable, errors.New("not settled"))
	}
	return n.hub.Frontier(), nil
}
