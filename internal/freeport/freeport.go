// Package freeport finds ports for servers that another process starts in a moment, and
// perhaps again later.
package freeport

import (
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
)

// Ports come from below those that the kernel gives, at any moment, to whoever connects
// or listens on port 0: from 32768 on with Linux, from 49152 on elsewhere (IANA). A port
// of theirs that was found free may be somebody's before the server listens that it is for.
const (
	first = 10_000
	end   = 32_768
)

// perProcess is how far apart processes whose identifiers follow each other begin: those
// that look at the same moment are to find others.
const perProcess = 64

var (
	mu   sync.Mutex
	next = os.Getpid() * perProcess % (end - first) // what is tried next, counted from first; mu guards it
)

var errNone = errors.New("no port from " + strconv.Itoa(first) + " to " + strconv.Itoa(end-1) + " is free")

// Addrs returns n addresses, host:port, at which nobody listens, no two the same. In one
// process no address is returned again before all others were. The empty host is all of
// the machine's. It doesn't wait, and may be called by several goroutines at once.
func Addrs(host string, n int) ([]string, error) {
	mu.Lock()
	defer mu.Unlock()
	var addrs []string
	for range end - first {
		if len(addrs) == n {
			return addrs, nil
		}
		addr := net.JoinHostPort(host, strconv.Itoa(first+next))
		next = (next + 1) % (end - first)
		if listener, err := net.Listen("tcp", addr); err == nil { //nolint:noctx // it doesn't wait
			_ = listener.Close() // nobody accepts from it
			addrs = append(addrs, addr)
		}
	}
	return nil, errNone
}
