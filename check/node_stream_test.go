package check_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/server/hub"
)

const heartbeat = 200 * time.Millisecond

func revision(text string) freshet.Revision {
	rev, _ := freshet.ParseRevision(text) // what isn't one is none
	return rev
}

func (n *node) events(w http.ResponseWriter, r *http.Request) {
	topics, since := r.URL.Query()["topic"], hub.Since{All: revision(r.URL.Query().Get("since"))}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		since.All = revision(id)
	}
	if n.flaw == losesAtResume {
		since = hub.Since{}
	}
	if r.Method == http.MethodPost {
		var body struct {
			Topics       []string          `json:"topics"`
			Since        string            `json:"since"`
			SinceByTopic map[string]string `json:"since_by_topic"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		topics, since = body.Topics, n.since(body.Since, body.SinceByTopic)
		if n.flaw == ignoresSinceByPost {
			since.All = freshet.Revision{}
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	controller := http.NewResponseController(w)
	send := func(event string, rev freshet.Revision, topics []string, part bool) {
		if !part {
			_, _ = fmt.Fprintf(w, "id: %s\n", rev) // the client went
		}
		data, _ := json.Marshal(map[string]any{"revision": rev.String(), "topics": topics, "heartbeat_ms": heartbeat.Milliseconds()})
		if event != "invalidate" {
			data, _ = json.Marshal(map[string]any{"revision": rev.String(), "heartbeat_ms": heartbeat.Milliseconds()})
		}
		_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		_ = controller.Flush()
	}
	if err := n.stream(r.Context(), topics, since, false, send); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *node) since(all string, byTopic map[string]string) hub.Since {
	since := hub.Since{All: revision(all), ByTopic: map[string]freshet.Revision{}}
	for topic, text := range byTopic {
		since.ByTopic[topic] = revision(text)
	}
	if n.flaw == ignoresSinceByTopic {
		since.ByTopic = nil
	}
	return since
}

// watcher is a node's InvalidationService.
type watcher struct{ *node }

func (n watcher) Watch(ctx context.Context, req *connect.Request[freshetv1.WatchRequest], out *connect.ServerStream[freshetv1.WatchResponse]) error {
	since := n.since(req.Msg.GetSince(), req.Msg.GetSinceByTopic())
	if n.flaw == ignoresSinceByWatch {
		since = hub.Since{}
	}
	return n.stream(ctx, req.Msg.GetTopics(), since, true, func(event string, rev freshet.Revision, topics []string, part bool) {
		text, m := rev.String(), &freshetv1.WatchResponse{}
		switch event {
		case "invalidate":
			if n.flaw == tellsNothingByWatch {
				return
			}
			if part {
				text = ""
			}
			m.Event = &freshetv1.WatchResponse_Invalidate_{Invalidate: &freshetv1.WatchResponse_Invalidate{Revision: text, Topics: topics}}
		case "ready":
			m.Event = &freshetv1.WatchResponse_Ready_{Ready: &freshetv1.WatchResponse_Ready{Revision: text, HeartbeatMs: uint32(heartbeat.Milliseconds())}}
		case "reset":
			m.Event = &freshetv1.WatchResponse_Reset_{Reset_: &freshetv1.WatchResponse_Reset{Revision: text}}
		case "frontier":
			m.Event = &freshetv1.WatchResponse_Frontier_{Frontier: &freshetv1.WatchResponse_Frontier{Revision: text}}
		}
		_ = out.Send(m) // the client went
	})
}

// heard takes out of a notice what a flaw keeps to itself.
func (n *node) heard(topics []string) []string {
	silent := func(topic string) bool {
		switch n.flaw {
		case silentOnMessages:
			return topic == "messages"
		case silentOnAll:
			return topic == "conversations/-/messages"
		case silentOnCallers:
			return strings.HasPrefix(topic, callersTopic)
		case silentOnItems:
			return strings.Count(topic, "/") == 3
		default:
			return false
		}
	}
	topics = slices.DeleteFunc(slices.Clone(topics), silent)
	if n.flaw == tellsTheFirst && len(topics) > 1 {
		topics = topics[:1]
	}
	return topics
}

// stream serves one subscription. It returns nil when the client goes.
func (n *node) stream(ctx context.Context, topics []string, since hub.Since, watch bool, send func(event string, rev freshet.Revision, topics []string, part bool)) error {
	sub, err := n.hub.Subscribe(topics, since)
	if err != nil {
		return err
	}
	defer sub.Close()
	tell := func(told hub.Notice) {
		if told.Reset && n.flaw != tellsNoReset {
			send("reset", told.Frontier, nil, false)
		}
		rest := n.heard(told.Topics)
		const most = 200 // topics in a frame
		for len(rest) > 0 {
			part := rest[:min(most, len(rest))]
			rest = rest[len(part):]
			send("invalidate", told.Revision, part, len(rest) > 0 && n.flaw != putsIDsOnParts)
		}
	}
	caughtUp := sub.Take()
	if n.flaw != readyEarly {
		tell(caughtUp)
	}
	send("ready", caughtUp.Frontier, nil, false)
	if n.flaw == readyEarly {
		tell(caughtUp)
	}
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	var held *hub.Notice
	var left bool // behind: a failover has been, and it tells no more
	for {
		beat := false
		select {
		case <-ctx.Done():
			return nil
		case <-sub.Wake():
		case <-ticker.C:
			beat = true
		}
		told := sub.Take()
		if left = left || told.Reset && n.flaw == leavesStreamsBehind; left {
			send("frontier", caughtUp.Frontier, nil, false)
			continue
		}
		caughtUp = told
		switch {
		case n.flaw == drops && rand.IntN(100) == 0:
			continue
		case n.flaw == reorders && held == nil && rand.IntN(10) == 0:
			held = &told
			continue
		}
		tell(told)
		if held != nil {
			tell(*held)
			held = nil
		}
		if beat && n.flaw == beatsAhead {
			told.Frontier = n.world.logEnd()
		}
		if beat {
			send("frontier", told.Frontier, nil, false)
		}
	}
}
