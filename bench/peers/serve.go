package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

type serveOptions struct {
	Peer       string `required:""`
	SendBuffer int
	Limit      int `default:"20000"`
}

// order is what a server's process is asked for: one field is set.
type order struct {
	Publish *publishing `json:"publish,omitempty"`
	Commit  *committing `json:"commit,omitempty"`
	Collect bool        `json:"collect,omitempty"` // garbage
}

// publishing is notices on a schedule that doesn't wait for anybody.
type publishing struct {
	Number int `json:"number"`
	Rate   int `json:"rate"`             // per second
	Topics int `json:"topics,omitempty"` // each notice is of the next of so many; 0: of the one topic
}

// topicOf is the topic of the notice with a number.
func (p *publishing) topicOf(number int) string {
	if p.Topics == 0 {
		return topic
	}
	return topicOf(number % p.Topics)
}

// state answers an order; an empty order asks where the server listens.
type state struct {
	Error    string        `json:"error,omitempty"`
	Address  string        `json:"address"`
	PID      int           `json:"pid"`
	Path     string        `json:"path"`
	Position uint64        `json:"position"` // of the last notice
	FirstAt  int64         `json:"first_at"` // when the first notice was handed over
	Took     time.Duration `json:"took_ns"`
	CPU      time.Duration `json:"cpu_ns"` // that this process has used so far, finer than /proc tells it
}

// Run serves one peer until stdin ends.
func (o serveOptions) Run() (err error) {
	p, err := peerOf(o.Peer)
	if err != nil {
		return err
	}
	s, err := p.start(options{SendBuffer: o.SendBuffer, Connections: o.Limit})
	if err != nil {
		return err
	}
	out := &publisher{server: s}
	defer func() { _ = s.close() }() // everything is over anyway
	return fanout.Obey(os.Stdin, os.Stdout, func(c order) state {
		now := state{Address: s.address(), PID: s.pid(), Path: p.path}
		switch {
		case c.Publish != nil:
			if err := out.run(c.Publish, &now); err != nil {
				now.Error = err.Error()
			}
		case c.Commit != nil:
			if err := c.Commit.run(s); err != nil {
				now.Error = err.Error()
			}
		case c.Collect:
			runtime.GC() // twice: what a pool holds survives the first
			runtime.GC()
			debug.FreeOSMemory()
		}
		cpu, err := cpuOfSelf()
		if err != nil {
			now.Error = err.Error()
		}
		now.CPU = cpu
		return now
	})
}

// blockedAfter is how long a server may take to accept a notice.
const blockedAfter = 5 * time.Second

// publisher hands notices to a server. A server that a stalled reader has
// stopped blocks whoever publishes, perhaps for ever: then there are no more.
type publisher struct {
	server  server
	blocked bool
}

func (p *publisher) run(what *publishing, now *state) error {
	if what.Rate <= 0 {
		return fmt.Errorf("a rate of %d", what.Rate)
	}
	start := time.Now()
	notices, done := make(chan notice), make(chan error, 1)
	defer close(notices)
	go func() {
		for n := range notices {
			done <- p.server.publish(n)
		}
	}()
	patience := time.NewTimer(blockedAfter)
	defer patience.Stop()
	for i := range what.Number {
		if p.blocked {
			break
		}
		at := start.Add(time.Duration(i) * time.Second / time.Duration(what.Rate))
		time.Sleep(time.Until(at))
		n := newNotice(time.Now(), what.topicOf(i))
		if i == 0 {
			now.FirstAt = int64(n.revision.Position) //nolint:gosec // nanoseconds since 1970
		}
		now.Position = n.revision.Position
		notices <- n
		patience.Reset(blockedAfter)
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-patience.C:
			p.blocked = true
		}
	}
	now.Took = time.Since(start)
	return nil
}
