package main

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/freshet-dev/freshet"
)

// committing is commits of one topic each, one after the other, as fast as they
// are taken.
type committing struct {
	Topics int `json:"topics"`
	Number int `json:"number"` // of commits; 0: each topic once, in order; else of any topic each
}

// run hands the commits to Freshet's hub, without readers to tell. Each makes
// its topic's name, as decoding does.
func (c *committing) run(s server) error {
	peer, ok := s.(freshetPeer)
	if !ok {
		return errors.New("only Freshet has a table of topics")
	}
	// Positions are times, so that later notices are above them.
	begin := uint64(time.Now().UnixNano()) - uint64(max(c.Topics, c.Number)) //nolint:gosec,forbidigo // a number, after 1970
	random := rand.New(rand.NewPCG(1, 2))
	number := c.Number
	if number == 0 {
		number = c.Topics
	}
	for i := range number {
		topic := i
		if c.Number > 0 { // in no order that memory could profit from
			topic = random.IntN(c.Topics)
		}
		peer.hub.Publish(freshet.Commit{
			Revision: freshet.Revision{Epoch: epoch, Position: begin + uint64(i)}, //nolint:gosec // not negative
			Topics:   []string{topicOf(topic)},
		})
	}
	return nil
}

// cpuOfSelf is what this process has used, to the microsecond: /proc counts in
// ticks of 10 ms, which is too coarse for a point of a curve.
func cpuOfSelf() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
