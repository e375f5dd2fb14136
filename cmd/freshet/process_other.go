//go:build !linux

package main

import "syscall"

// dieWithParent is Linux'. Elsewhere a program that is killed leaves its servers
// behind, which find no Postgres.
func dieWithParent(*syscall.SysProcAttr) {}
