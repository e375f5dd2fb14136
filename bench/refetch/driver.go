//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/freshet-dev/freshet/bench/fanout"
)

// order is what the driver is asked to do: one of its fields is set.
type order struct {
	Connect *connecting `json:"connect,omitempty"`
	Ask     *asking     `json:"ask,omitempty"`
}

// connecting opens more connections to an address.
type connecting struct {
	Address string `json:"address"`
	Number  int    `json:"number"`
}

// asking sends the same request on every connection to an address, and reads
// all answers.
type asking struct {
	Address string `json:"address"`
	Request []byte `json:"request"`
}

// tally is what came of it.
type tally struct {
	Error   string        `json:"error,omitempty"`
	Answers int           `json:"answers"`
	Last    time.Duration `json:"last_ns"` // from the first request's sending to the last answer's end
	Length  int           `json:"length"`  // of the body, the same for all
	Head    []byte        `json:"head"`    // of one of them
	Body    []byte        `json:"body"`
}

// driver is the clients: keep-alive connections, read by one thread with
// epoll(7), so that asking costs as little as it can beside the server.
type driver struct {
	sets map[string]*connections // by address
	buf  [64 << 10]byte
}

type connections struct {
	epoll int
	all   map[int]*response // by descriptor
	order []int
}

// drive obeys orders until in ends, and then closes all connections.
func drive(in io.Reader, out io.Writer) error {
	d := &driver{sets: map[string]*connections{}}
	err := fanout.Obey(in, out, d.obey)
	for _, c := range d.sets {
		for _, fd := range c.order {
			err = errors.Join(err, os.NewSyscallError("close", syscall.Close(fd)))
		}
		err = errors.Join(err, os.NewSyscallError("close", syscall.Close(c.epoll)))
	}
	return err
}

func (d *driver) obey(o order) (t tally) {
	var err error
	switch {
	case o.Connect != nil:
		err = d.connect(o.Connect)
	case o.Ask != nil:
		t, err = d.ask(o.Ask)
	}
	if err != nil {
		t.Error = err.Error()
	}
	return t
}

func (d *driver) connect(o *connecting) error {
	c := d.sets[o.Address]
	if c == nil {
		epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("epoll_create1", err)
		}
		c = &connections{epoll: epoll, all: map[int]*response{}}
		d.sets[o.Address] = c
	}
	for range o.Number {
		fd, err := dial(o.Address)
		if err != nil {
			return err
		}
		c.all[fd] = &response{keep: len(c.order) == 0}
		c.order = append(c.order, fd)
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)} //nolint:gosec // a descriptor
		if err := syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

func dial(address string) (fd int, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return 0, errors.Join(os.NewSyscallError("connect", err), syscall.Close(fd))
	}
	return fd, nil
}

// askTimeout bounds the wait for all answers.
const askTimeout = 30 * time.Second

// ask is one burst. Requests are small and sockets' buffers empty, so sending
// them one after the other never blocks.
func (d *driver) ask(o *asking) (t tally, err error) {
	c := d.sets[o.Address]
	if c == nil {
		return t, fmt.Errorf("no connections to %s", o.Address)
	}
	for _, r := range c.all {
		r.begin()
	}
	began := time.Now()
	for _, fd := range c.order {
		if n, err := syscall.Write(fd, o.Request); err != nil || n < len(o.Request) {
			return t, fmt.Errorf("%d of %d bytes of a request were sent: %w", n, len(o.Request), err)
		}
	}
	events := make([]syscall.EpollEvent, 256)
	for t.Answers < len(c.order) {
		if t.Last = time.Since(began); t.Last > askTimeout {
			return t, fmt.Errorf("%d of %d answers within %v", t.Answers, len(c.order), askTimeout)
		}
		n, err := syscall.EpollWait(c.epoll, events, 100) // ms
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return t, os.NewSyscallError("epoll_wait", err)
		}
		for _, event := range events[:max(n, 0)] {
			done, err := d.receive(c, int(event.Fd))
			if err != nil {
				return t, err
			}
			if done {
				t.Answers++
			}
		}
	}
	t.Last = time.Since(began)
	return t, c.compare(&t)
}

// receive reads once; epoll tells again of what is left.
func (d *driver) receive(c *connections, fd int) (done bool, err error) {
	n, err := syscall.Read(fd, d.buf[:])
	switch {
	case errors.Is(err, syscall.EINTR):
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("read", err)
	case n == 0:
		return false, errors.New("the server closed a connection")
	}
	return c.all[fd].feed(d.buf[:n])
}

// compare fails unless all answers had the same body.
func (c *connections) compare(t *tally) error {
	first := c.all[c.order[0]]
	t.Length, t.Head, t.Body = first.length, first.head, first.body
	for _, r := range c.all {
		if r.length != first.length || r.sum != first.sum {
			return fmt.Errorf("different answers to one request: %d and %d bytes", first.length, r.length)
		}
	}
	return nil
}
