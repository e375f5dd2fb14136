package sim

import (
	"errors"
	"fmt"
)

// Costs are what a thing takes, in microseconds of CPU time unless the comment says
// otherwise. The zero value of one is that it takes nothing.
type Costs struct {
	// On the primary.
	Write         float64 `json:"write"`          // a commit of one row, by those who write
	Walsender     float64 `json:"walsender"`      // to decode and send a commit, for each node
	WalsenderWake float64 `json:"walsender_wake"` // besides, for one that was idle
	Gate          float64 `json:"gate"`           // a snapshot
	Probe         float64 `json:"probe"`          // a look at the position
	Statement     float64 `json:"statement"`      // a read that no kept answer serves

	// On a node.
	Idle      float64 `json:"idle"`        // each second, with nobody connected and nothing written
	Decode    float64 `json:"decode"`      // a commit: reading, decoding, the hub
	Wake      float64 `json:"wake"`        // besides, when the feed was idle
	GateAsk   float64 `json:"gate_ask"`    // to ask for a snapshot
	Tell      float64 `json:"tell"`        // a commit that streams of the node follow, besides its frames
	Frame     float64 `json:"frame"`       // a frame to a stream
	Heartbeat float64 `json:"heartbeat"`   // one stream's, each second
	Call      float64 `json:"call"`        // an answer to a refetch, kept or not
	Query     float64 `json:"query"`       // besides, by the call that asks the database
	WriteCall float64 `json:"write_call"`  // a call that writes
	Apply     float64 `json:"apply"`       // a commit out of a relay's frame, the hub's work in it
	ApplyWake float64 `json:"apply_wake"`  // a frame of the relay, whatever is in it
	Relay     float64 `json:"relay"`       // to publish a frame, on the node that decodes for all
	BusIn     float64 `json:"bus_in"`      // on the message bus: a frame that comes in
	BusOut    float64 `json:"bus_out"`     // and one that goes out to a node
	BusKB     float64 `json:"bus_kb"`      // and each 1,000 bytes that go out
	Stream    float64 `json:"stream_kib"`  // KiB of memory of a stream, the kernel's in it
	Base      float64 `json:"base_mib"`    // MiB of memory of a node without streams
	PerTopic  float64 `json:"topic_bytes"` // bytes of memory of a topic in a node's table

	// Times that nobody computes in, in microseconds.
	Nap       float64 `json:"nap"`        // until a process that sleeps runs
	Cool      float64 `json:"cool"`       // after which it has to be woken at two thirds of the cost, for its caches are cold; 0: at all of it at once
	Flush     float64 `json:"flush"`      // from the commit's work to its return, the disk's
	RoundTrip float64 `json:"round_trip"` // between a node and the database
	Network   float64 `json:"network"`    // one way between a node and a client

	// Bytes on the wire.
	FrameBytes  float64 `json:"frame_bytes"`  // to a client, headers of all layers in it
	AnswerBytes float64 `json:"answer_bytes"` // of a refetch
	RelayBytes  float64 `json:"relay_bytes"`  // of a commit in a relay's frame
}

// Load is what clients do.
type Load struct {
	Clients   int     `json:"clients"`    // each has one stream
	Topics    int     `json:"topics"`     // that each client follows
	Followers int     `json:"followers"`  // of each topic
	Commits   float64 `json:"commits"`    // a second, of one row and one topic each
	Even      bool    `json:"even"`       // they come at even intervals, as a benchmark's do; else at random
	ByCalls   bool    `json:"by_calls"`   // they are written through nodes; else by SQL
	Refetch   bool    `json:"refetch"`    // clients fetch what they are told of
	Throttle  float64 `json:"throttle"`   // of a stream, in seconds
	ReadPace  float64 `json:"read_pace"`  // least time between two statements of a key on a node, in seconds
	ProbeEach float64 `json:"probe_each"` // seconds between two looks at the position
}

// Fleet is what there is to do it with.
type Fleet struct {
	Nodes        int  `json:"nodes"`
	Cores        int  `json:"cores"` // of a node, for streams and calls; its feed has another
	PrimaryCores int  `json:"primary_cores"`
	Replicas     int  `json:"replicas"` // that statements go to; 0: to the primary
	ReplicaCores int  `json:"replica_cores"`
	Relay        bool `json:"relay"`     // one node decodes for all
	BusCores     int  `json:"bus_cores"` // of the message bus
	Affinity     bool `json:"affinity"`  // followers of a topic are on one node
}

var errModel = errors.New("nothing to simulate")

func check(l Load, f Fleet) error {
	switch {
	case l.Clients < 1 || l.Topics < 1 || l.Followers < 1 || l.Commits <= 0:
		return fmt.Errorf("%w: want clients that follow topics, and commits", errModel)
	case f.Nodes < 1 || f.Cores < 1 || f.PrimaryCores < 1:
		return fmt.Errorf("%w: want a node, a primary, and cores of each", errModel)
	case f.Replicas > 0 && f.ReplicaCores < 1 || f.Relay && f.BusCores < 1:
		return fmt.Errorf("%w: want cores of replicas and of the bus", errModel)
	}
	return nil
}

// topics is how many there are in all.
func (l Load) topics() int { return max(1, l.Clients*l.Topics/l.Followers) }

// gather is for how long the feed leaves a busy stream to gather (decision 0011): from
// 10,000 messages a second on, until 128 have come, at most 5 ms. A commit of one row is
// three.
func gather(commits float64) float64 {
	const messages = 3
	if commits*messages < 10_000 {
		return 0
	}
	return min(128/(commits*messages), 5e-3)
}

const micro = 1e-6
