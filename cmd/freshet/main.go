// Command freshet serves typed RPCs over Postgres together with a stream that
// says which topics changed, up to which revision. See `freshet --help`.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := untilSignal(context.Background())
	code := run(ctx, takeArgs(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errTerminated is why a context of untilSignal has ended by SIGTERM: somebody
// manages this process, and perhaps those who use it. By SIGINT, somebody sits
// there and waits.
var errTerminated = errors.New("SIGTERM")

// untilSignal returns a context that ends by SIGINT or SIGTERM. A second signal
// ends the program at once.
func untilSignal(parent context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			signal.Stop(signals)
			if s == syscall.SIGTERM {
				cancel(errTerminated)
			}
			cancel(nil)
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
