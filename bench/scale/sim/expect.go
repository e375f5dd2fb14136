package sim

import "math"

// Expectation is what everything is asked to do on average, and what it takes.
type Expectation struct {
	StreamsPerNode float64
	Frames         float64 // a second, per node
	Calls          float64 // refetches a second, per node
	Statements     float64 // a second, of all nodes
	Snapshots      float64 // a second, of all nodes

	Feed       float64 // of the one core that feeds a node
	Streams    float64 // CPUs of a node beside its feed
	Walsender  float64 // of the one core of a walsender
	Walsenders float64 // CPUs of all
	Gates      float64 // CPUs of all snapshots and probes
	Queries    float64 // CPUs of statements
	Writes     float64 // CPUs of those who write
	Primary    float64 // CPUs of it all, but statements that go to replicas
	Replicas   float64 // CPUs of statements that go to them
	Holder     float64 // of the core of the node that decodes for all
	Bus        float64 // CPUs of the message bus
	BusBytes   float64 // out of it, a second

	NodeMemory float64 // bytes of a node
	ToClients  float64 // bytes a second, of all nodes
}

// Expect works out means from rates. It assumes that everything is done, however busy
// that makes something: a share above 1 is what isn't possible.
func Expect(c Costs, l Load, f Fleet) (*Expectation, error) {
	if err := check(l, f); err != nil {
		return nil, err
	}
	nodes, commits := float64(f.Nodes), l.Commits
	decoders := nodes
	if f.Relay {
		decoders = 1
	}
	e := &Expectation{StreamsPerNode: float64(l.Clients) / nodes}

	// The feed. A snapshot is taken of whatever came while the last was taken: the busy
	// periods of a server that serves everybody who waits at once.
	perTopic := commits / float64(l.topics())
	cycle := (c.RoundTrip + c.Gate) * micro
	batches := merged(commits, max(cycle, gather(commits)))
	if c.Nap > 0 { // and of what came while the feed slept
		batches = min(batches, 1/(c.Nap*micro+1/commits))
	}
	e.Snapshots = batches * decoders
	feed := commits*awake(commits, c.Decode*micro, c.Wake*micro, c.Nap*micro, c.Cool*micro) + batches*c.GateAsk*micro
	e.Feed = feed
	e.Walsender = commits * senderCost(c, commits)
	e.Walsenders = e.Walsender * decoders
	e.Gates = e.Snapshots * c.Gate * micro
	if l.ProbeEach > 0 {
		e.Gates += nodes * c.Probe * micro / l.ProbeEach
	}
	if f.Relay {
		e.Holder = feed + batches*c.Relay*micro
		e.Feed = batches*c.ApplyWake*micro + commits*c.Apply*micro
		kb := c.RelayBytes * commits / 1000
		e.Bus = (batches*c.BusIn + (nodes-1)*(batches*c.BusOut+kb*c.BusKB)) * micro
		e.BusBytes = (nodes - 1) * kb * 1000
	}

	// Streams: a frame at once, and then not before the throttle is over.
	perStream := merged(perTopic*float64(l.Topics), l.Throttle)
	e.Frames = perStream * e.StreamsPerNode
	told := commits * present(f, l) // commits that somebody on a given node follows
	if l.Refetch {
		// A frame has all topics that have changed; each is a call.
		e.Calls = e.StreamsPerNode * float64(l.Topics) * toldOf(perTopic, l)
		e.Statements = float64(l.topics()) * atPace(perTopic, l) * keyNodes(f, l)
	}
	e.Streams = (c.Idle + e.StreamsPerNode*c.Heartbeat + e.Frames*c.Frame + told*c.Tell + e.Calls*c.Call + e.Statements/nodes*c.Query) * micro
	if l.ByCalls {
		e.Streams += commits / nodes * c.WriteCall * micro
	}

	e.Writes = commits * c.Write * micro
	e.Queries = e.Statements * c.Statement * micro
	e.Primary = e.Writes + e.Walsenders + e.Gates + e.Queries
	if f.Replicas > 0 {
		e.Primary -= e.Queries
		e.Replicas = e.Queries
	}
	e.NodeMemory = c.Base*(1<<20) + e.StreamsPerNode*c.Stream*1024 + float64(l.topics())*c.PerTopic
	e.ToClients = nodes * (e.Frames*c.FrameBytes + e.Calls*c.AnswerBytes)
	return e, nil
}

// merged is how often something happens that random events of a rate ask for, at once
// if nothing has happened for a while, else at its end. After each there is the while,
// and then, unless something came in it, the wait for the next.
func merged(rate, while float64) float64 {
	return 1 / (while + math.Exp(-rate*while)/rate)
}

// toldOf is how often a stream is told of one of its topics.
func toldOf(perTopic float64, l Load) float64 {
	if l.Topics == 1 {
		return merged(perTopic, l.Throttle)
	}
	// A topic waits for the throttle whenever any other was told just before, so its
	// commits merge only if they come within what is left of it. A lower bound of
	// merging, which is exact for rates far below one per throttle.
	return perTopic
}

// atPace is how often a key is asked for on a node.
func atPace(perTopic float64, l Load) float64 {
	if l.Followers == 1 || l.ReadPace == 0 {
		return merged(perTopic, l.Throttle)
	}
	return min(merged(perTopic, l.Throttle), 1/l.ReadPace)
}

// keyNodes is how many nodes have followers of a topic, on average.
func keyNodes(f Fleet, l Load) float64 {
	if f.Affinity {
		return 1
	}
	nodes := float64(f.Nodes)
	return nodes * (1 - math.Pow(1-1/nodes, float64(l.Followers)))
}

// present is the share of topics that a given node has followers of.
func present(f Fleet, l Load) float64 { return keyNodes(f, l) / float64(f.Nodes) }

// senderCost is what a walsender takes per commit, in seconds.
func senderCost(c Costs, commits float64) float64 {
	return awake(commits, c.Walsender*micro, c.WalsenderWake*micro, c.Nap*micro, c.Cool*micro)
}
