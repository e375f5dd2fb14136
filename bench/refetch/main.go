//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Run    runOptions    `cmd:"" default:"withargs" help:"Measure."`
	Drive  driveOptions  `cmd:"" hidden:"" help:"The clients' process."`
	Static staticOptions `cmd:"" hidden:"" help:"The process of the handler beside it."`
}

type runOptions struct {
	Freshet     string `default:"bin/freshet" help:"The program to start."`
	Connections int    `default:"4000" help:"Connections that ask."`
	Rounds      int    `default:"15" help:"Rounds."`
	Profile     string `placeholder:"DIR" type:"existingdir" help:"Afterwards, write CPU profiles of the server under such bursts there, half a minute."`
	Results     string `default:"bench/results" help:"Folder to write a folder of results to; empty: none."`
}

// Validate is called by kong.
func (o *runOptions) Validate() error {
	if o.Connections < 1 || o.Rounds < 1 {
		return fmt.Errorf("%d connections and %d rounds: want one of each at least", o.Connections, o.Rounds)
	}
	return nil
}

type driveOptions struct{}

// Run is the driver's process.
func (driveOptions) Run() error { return drive(os.Stdin, os.Stdout) }

type staticOptions struct{}

// Run is the static handler's process.
func (staticOptions) Run(ctx context.Context) error { return serveStatic(ctx, os.Stdin, os.Stdout) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var c commands
	k := kong.Parse(&c, kong.Name("refetch"), kong.Description("Measures thousands of reads of one answer."), kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "refetch:", err)
		os.Exit(1)
	}
}
