// Command freshet serves typed RPCs over Postgres together with a stream that
// says which topics changed, up to which revision. See `freshet --help`.
package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := untilSignal(context.Background())
	code := run(ctx, takeArgs(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
