package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

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

// onHangUp does what SIGHUP asks for. It asks a service to read its configuration
// anew: all of reload (passwords are read at every connect).
// But it also says that the terminal is gone: then stop is called. Under nohup
// nothing happens.
func onHangUp(ctx context.Context, logger *slog.Logger, reload []func(context.Context) error, stop func()) error {
	if signal.Ignored(syscall.SIGHUP) {
		<-ctx.Done()
		return nil
	}
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	inTerminal := haveTerminal()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangUps:
		}
		if inTerminal && !haveTerminal() {
			stop()
			continue
		}
		if len(reload) == 0 {
			logger.InfoContext(ctx, "SIGHUP: there is nothing to reload; serving on")
		}
		for _, again := range reload {
			_ = again(ctx) // it is logged
		}
	}
}

// haveTerminal reports whether the process has a controlling terminal, tty(4).
func haveTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	return tty.Close() == nil
}
