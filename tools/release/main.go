// Command release builds what a release consists of into a folder: an archive for
// each system with the program, its manual and completions, a bill of materials
// beside it, the npm packages, and the checksums of it all. The same commit gives
// the same bytes, on whichever machine and in whichever folder: nothing of a clock, a
// path, a user or an order of files is in them.
//
// It is a module of its own, so that what it needs is nobody else's. `make release`
// runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	r := release{log: os.Stderr}
	flag.StringVar(&r.root, "root", ".", "the repository's folder")
	flag.StringVar(&r.out, "out", "dist", "where to write")
	flag.StringVar(&r.main, "main", "./cmd/freshet", "the program's package")
	flag.BoolVar(&r.dirty, "dirty", false, "also with changes that are not committed, to try it")
	flag.BoolVar(&r.packages, "packages", true, "with the npm packages, which are built before")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "the systems")
	boms := flag.Bool("sbom", true, "with a bill of materials of each program")
	flag.Parse()
	r.targets = strings.Split(*targets, ",")
	if *boms {
		r.sbom = []string{"go", "tool", "-modfile=tools/sbom/go.mod", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp", "-std"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := r.build(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
