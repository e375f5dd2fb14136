package fanout

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// readers are many connections to one server, read by one thread: epoll(7) and
// read(2), so that reading costs as little as it can beside the server.
type readers struct {
	epoll   int
	stopped chan error
	buf     [64 << 10]byte // of the reading thread

	mu      sync.Mutex // guards what follows
	conns   map[int]*connection
	stalled []int
	heads   int // connections that have the head of their response
	closed  int
	notices uint64
	lastAt  time.Time
	delays  histogram
}

type connection struct {
	scanner

	position uint64 // of the last notice
}

// Serve obeys commands until in ends, and then closes all connections.
func Serve(in io.Reader, out io.Writer) error {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	r := &readers{epoll: epoll, conns: map[int]*connection{}, stopped: make(chan error, 1)}
	end := make(chan struct{})
	go func() { r.stopped <- r.read(end) }()
	err = Obey(in, out, r.obey)
	close(end)
	err = errors.Join(err, <-r.stopped)
	for fd := range r.conns {
		err = errors.Join(err, syscall.Close(fd))
	}
	for _, fd := range r.stalled {
		err = errors.Join(err, syscall.Close(fd))
	}
	return errors.Join(err, syscall.Close(epoll))
}

func (r *readers) obey(c Command) Report {
	var err error
	switch {
	case c.Connect != nil:
		err = r.connect(c.Connect)
	case c.Stall != nil:
		err = r.stall(c.Stall)
	case c.Reset:
		r.reset()
	case c.Await > 0:
		r.await(c.Await, c.Within)
	}
	report := r.report()
	if err != nil {
		report.Error = err.Error()
	}
	return report
}

func (r *readers) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notices, r.delays, r.lastAt = 0, histogram{}, time.Time{}
}

func (r *readers) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := Report{
		Connections: len(r.conns), Closed: r.closed, Notices: r.notices,
		P50: r.delays.quantile(0.5), P99: r.delays.quantile(0.99), Max: r.delays.max,
	}
	if !r.lastAt.IsZero() {
		report.LastAt = r.lastAt.UnixNano()
	}
	first := true
	for _, c := range r.conns {
		if first || c.position < report.Position {
			report.Position = c.position
		}
		first = false
	}
	return report
}

// await looks often: what it waits for takes tens of milliseconds, and its end
// is told by lastAt, not by when it was seen.
func (r *readers) await(notices uint64, within time.Duration) {
	const interval = 2 * time.Millisecond
	began := time.Now()
	for time.Since(began) < within {
		r.mu.Lock()
		enough, silent := r.notices >= notices, time.Since(r.lastAt) > within/2 && time.Since(began) > within/2
		r.mu.Unlock()
		if enough || silent {
			return
		}
		time.Sleep(interval)
	}
}

// connectTimeout bounds the wait for the heads of all responses.
const connectTimeout = 60 * time.Second

// connect opens connections a few at a time, so that the server's queue of
// those it has not accepted yet never overflows.
func (r *readers) connect(c *Connect) error {
	const ahead = 64
	r.mu.Lock()
	begin := r.heads
	r.mu.Unlock()
	deadline := time.Now().Add(connectTimeout)
	for opened := 0; ; {
		r.mu.Lock()
		got, closed := r.heads-begin, r.closed
		r.mu.Unlock()
		switch {
		case closed > 0:
			return fmt.Errorf("the server closed %d connections", closed)
		case got == c.Number:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d of %d connections got a response within %v", got, c.Number, connectTimeout)
		case opened == c.Number || opened-got >= ahead:
			time.Sleep(time.Millisecond)
			continue
		}
		fd, err := dial(c, opened, 0)
		if err != nil {
			return err
		}
		opened++
		if err := r.add(fd); err != nil {
			return err
		}
	}
}

func (r *readers) add(fd int) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	r.mu.Lock()
	r.conns[fd] = new(connection)
	r.mu.Unlock()
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)} //nolint:gosec // a descriptor
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &event))
}

// stall opens connections with the smallest receive buffer, and leaves them be.
func (r *readers) stall(c *Connect) error {
	for i := range c.Number {
		fd, err := dial(c, i, 1)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.stalled = append(r.stalled, fd)
		r.mu.Unlock()
	}
	return nil
}

// perSource is how many connections have the same address of their own: above
// half of its ports (about 14,000) the kernel takes long to find one more.
const perSource = 10_000

// dial sends a request for an event stream over HTTP/1.1. receiveBuffer is in
// bytes; the kernel has a least size.
func dial(c *Connect, number, receiveBuffer int) (fd int, err error) {
	at, err := netip.ParseAddrPort(c.Address)
	if err != nil {
		return 0, err
	}
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, syscall.Close(fd))
		}
	}()
	if receiveBuffer > 0 {
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if at.Addr().IsLoopback() {
		source := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + number/perSource)}} //nolint:gosec // of 20,000 files
		if err := bindLater(fd, source); err != nil {
			return 0, err
		}
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return 0, os.NewSyscallError("connect", err)
	}
	request := "GET " + c.pathOf(number) + " HTTP/1.1\r\nHost: " + c.Address + "\r\nAccept: text/event-stream\r\n\r\n"
	if _, err := syscall.Write(fd, []byte(request)); err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	return fd, nil
}

// bindLater gives a socket its address; connect(2) chooses the port, which then
// has to be free for one destination only (ip(7)).
func bindLater(fd int, source *syscall.SockaddrInet4) error {
	const noPort = 24 // IP_BIND_ADDRESS_NO_PORT, which package syscall lacks
	if err := syscall.SetsockoptInt(fd, syscall.SOL_IP, noPort, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", syscall.Bind(fd, source))
}

// read reads whatever comes until end is closed.
func (r *readers) read(end <-chan struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const look = 100 // for the end, in ms
	events := make([]syscall.EpollEvent, 256)
	for {
		select {
		case <-end:
			return nil
		default:
		}
		n, err := syscall.EpollWait(r.epoll, events, look)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range max(n, 0) {
			if err := r.receive(int(events[i].Fd)); err != nil {
				return err
			}
		}
	}
}

// receive reads once; epoll tells again of what is left.
func (r *readers) receive(fd int) error {
	n, err := syscall.Read(fd, r.buf[:])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return nil
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= 0 { // its end, or a reset
		r.closed++
		delete(r.conns, fd)
		return os.NewSyscallError("close", syscall.Close(fd))
	}
	c := r.conns[fd]
	had := c.head
	c.feed(r.buf[:n], func(position uint64) {
		c.position = position
		r.notices++
		r.lastAt = now
		r.delays.add(time.Duration(now.UnixNano() - int64(position))) //nolint:gosec // nanoseconds since 1970
	})
	if c.head && !had {
		r.heads++
	}
	return nil
}
