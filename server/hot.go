package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/freshet-dev/freshet/server/heat"
)

// HotTopic is what one topic has cost a node for a while, from the start of a
// measurement to its end. What is needless has found the same as before: the topic
// changes more often than what is read by it.
type HotTopic struct {
	Topic string `json:"topic"`
	// Sources are tables that tell it, and by which template.
	Sources []TopicSource `json:"sources,omitempty"`
	// Followers are the streams that follow it now.
	Followers int `json:"followers"`
	// Changes are commits that told it, and Notices how many streams had it to tell
	// then, changes between two notices of a stream counted once.
	Changes int `json:"changes"`
	Notices int `json:"notices"`
	// Reads at-least a revision, of answers that it had made too old, however they were
	// answered; and the queries that were run for these. (Of uncached reads, and of the
	// first answers, nobody knows.)
	Reads           int `json:"reads"`
	NeedlessReads   int `json:"needless_reads"`
	Queries         int `json:"queries"`
	NeedlessQueries int `json:"needless_queries"`
}

// TopicSource is a table and the template by which its rows tell a topic.
type TopicSource struct {
	Table    string `json:"table"` // schema.table
	Template string `json:"template"`
}

// HotTopics are what a measurement has found.
type HotTopics struct {
	Window time.Duration // how long it took
	Topics []HotTopic    // the worst: most needless reads first, then most notices
	// Replaced counts how often a topic had to make room for another, which began at
	// zero (Config.MaxHotTopics): counts are low then.
	Replaced int
}

// heatJSON is HotTopics as the admin port of serve answers /hot, and as `freshet doctor
// --hot` reads it.
type heatJSON struct {
	WindowMS int64      `json:"window_ms"`
	Replaced int        `json:"replaced"`
	Topics   []HotTopic `json:"topics"`
}

// MarshalJSON makes what `freshet doctor --hot` wants to hear from /hot.
func (h HotTopics) MarshalJSON() ([]byte, error) {
	return json.Marshal(heatJSON{h.Window.Milliseconds(), h.Replaced, append([]HotTopic{}, h.Topics...)})
}

// UnmarshalJSON takes what MarshalJSON makes.
func (h *HotTopics) UnmarshalJSON(text []byte) error {
	var found heatJSON
	if err := json.Unmarshal(text, &found); err != nil {
		return err
	}
	*h = HotTopics{time.Duration(found.WindowMS) * time.Millisecond, found.Topics, found.Replaced}
	return nil
}

// ErrBusy is Hot's, where somebody else measures.
var ErrBusy = heat.ErrBusy

// Hot measures for so long, or until ctx ends, which topics cost the node most, and
// returns the n worst. While nobody measures, nothing is counted. The error is ErrBusy,
// or ctx's.
func (n *Node) Hot(ctx context.Context, window time.Duration, worst int) (HotTopics, error) {
	result, err := n.heat.Measure(ctx, window)
	if err != nil {
		return HotTopics{}, err
	}
	hot := HotTopics{Window: result.Window, Replaced: result.Replaced}
	for _, t := range result.Worst(worst) {
		topic := HotTopic{
			Topic: t.Topic, Followers: n.hub.Followers([]string{t.Topic}),
			Changes: t.Changes, Notices: t.Notices, Reads: t.Reads, NeedlessReads: t.NeedlessReads,
			Queries: t.Queries, NeedlessQueries: t.NeedlessQueries,
		}
		for _, e := range n.program.Emissions() {
			if e.Floor.Match(t.Topic) {
				topic.Sources = append(topic.Sources, TopicSource{Table: e.Source, Template: e.Template})
			}
		}
		hot.Topics = append(hot.Topics, topic)
	}
	return hot, nil
}

// measurable makes what Hot measures with.
func (n *Node) measurable() {
	n.heat = heat.New(n.cfg.MaxHotTopics)
	n.hub.OnChanged(n.heat.Changed)
	if n.cfg.Registerer != nil {
		n.gauge("freshet_hot_topics", "Topics that are counted, at most --max-hot-topics, while somebody measures (freshet doctor --hot); else 0.",
			func() float64 { return float64(n.heat.Len()) })
	}
}
