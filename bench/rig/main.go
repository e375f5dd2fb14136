package rig

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// Main is that of a benchmark without commands: it parses options of O, and runs until
// SIGINT or SIGTERM. An error ends the process with status 1.
func Main[O any](name, description string, run func(ctx context.Context, o *O, to io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o O
	kong.Parse(&o, kong.Name(name), kong.Description(description))
	err := run(ctx, &o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
