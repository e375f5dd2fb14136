// Command peers measures what it costs to tell thousands of connections that
// something has changed: Freshet's stream beside other servers that push
// Server-Sent Events, and beside the least that it can cost.
//
//	make bench/peers
//
// Every server and the readers (bench/fanout) run in processes of their own on
// one machine, over loopback. Runs alternate: each round measures every peer,
// in turn, each time in a new process, so that a slow phase of the machine meets
// all of them; figures are medians over the rounds.
//
// Per peer and round:
//
//   - fan-out: Rate notices a second for Duration to Connections connections.
//     The CPU time of the server's processes over connections × notices, whether
//     or not the server merged them; how many frames came for each; the time from
//     the publisher's clock to the reader's.
//   - stalled: the same with one more connection that is never read from, and the
//     smallest send buffers that the kernel gives, for all. What counts is what
//     the others notice of it, once the stalled one's buffers are full.
//   - idle: resident memory of the server with Idle connections, less that of
//     the same process before them, after a garbage collection where there is one.
//     Memory of the kernel's sockets isn't in it.
//   - last: one notice to Idle connections, until the last of them has it.
//
// And of Freshet alone: 19,000 idle connections with their heartbeats; 10,000
// commits a second of one topic to 1,000 subscribers with the default throttle.
//
// # Scaling curves
//
//	make bench/curves
//
// How the cost of Freshet's stream grows with one quantity at a time, the others
// fixed: see sweeps. Each point is a server and readers of its own. A curve is
// worse than linear when, from any of its points to any later one, the cost of
// one unit rises by more than the noise of a short point (see noise).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/freshet-dev/freshet/bench/fanout"
)

type commands struct {
	Run    runOptions    `cmd:"" default:"withargs" help:"Measure."`
	Curves curvesOptions `cmd:"" help:"Measure how Freshet's cost grows."`
	Render renderOptions `cmd:"" help:"Write table, plot and benchstat's file of a folder's results.json anew."`
	Serve  serveOptions  `cmd:"" hidden:"" help:"A server's process."`
	Read   readOptions   `cmd:"" hidden:"" help:"The readers' process."`
}

type runOptions struct {
	Peers       []string      `help:"Peers to measure; unset: all."`
	Rounds      int           `default:"3" help:"Rounds."`
	Connections int           `default:"1000" help:"Connections of fan-out and stalled."`
	Rate        int           `default:"100" help:"Notices per second."`
	Duration    time.Duration `default:"5s" help:"Length of a fan-out."`
	Idle        int           `default:"10000" help:"Connections of idle and last."`
	Many        int           `default:"19000" help:"Idle connections of Freshet's own run; 0: none. The limit of open files bounds it."`
	Results     string        `default:"../results" help:"Folder to write a folder of results to; empty: none."`
}

type readOptions struct{}

func (readOptions) Run() error { return fanout.Serve(os.Stdin, os.Stdout) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var c commands
	k := kong.Parse(&c, kong.Name("peers"), kong.Description("Measures fan-out of Freshet and of others."), kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}
