package main

import (
	"net"
	"os"
)

// inProcess is what the peers written in Go have in common.
type inProcess struct{ at string }

func (p *inProcess) address() string { return p.at }
func (p *inProcess) pid() int        { return os.Getpid() }

func (p *inProcess) listen(o options) (bufferedListener, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return bufferedListener{}, err
	}
	p.at = l.Addr().String()
	return bufferedListener{l, o.SendBuffer}, nil
}
