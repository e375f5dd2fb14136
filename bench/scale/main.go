package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Simulate simulateOptions `cmd:"" default:"withargs" help:"Work out tables and plots, a minute."`
	Measure  measureOptions  `cmd:"" help:"Measure what the simulation rests on, five minutes."`
	Read     readOptions     `cmd:"" hidden:"" help:"The readers' process."`
}

type readOptions struct{}

func (readOptions) Run() error { return read() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var c commands
	k := kong.Parse(&c, kong.Name("scale"), kong.Description("Works out what fleets would do, up to ten million clients."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(io.Writer(os.Stdout), (*io.Writer)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}
