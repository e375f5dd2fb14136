// Command freshet serves typed RPCs over Postgres together with a stream that
// says which topics changed, up to which revision. See `freshet --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, takeArgs(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
