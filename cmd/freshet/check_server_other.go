//go:build !linux

package main

import "syscall"

// dieWithParent is Linux'. Elsewhere a checker that is killed leaves its server
// behind, which finds no Postgres.
func dieWithParent(*syscall.SysProcAttr) {}
