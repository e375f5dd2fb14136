//go:build !linux

package main

import "errors"

func read() error { return errors.New("the readers run on Linux only") }
