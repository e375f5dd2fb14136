//go:build unix

package front

import (
	"math"
	"syscall"
)

// openFiles is how many descriptors the process may have.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 { //nolint:unconvert // signed on some systems
		return math.MaxInt32
	}
	return int(limit.Cur) //nolint:gosec // bounded above
}
