package main

import (
	"os"

	"github.com/freshet-dev/freshet/bench/fanout"
)

func read() error { return fanout.Serve(os.Stdin, os.Stdout) }
