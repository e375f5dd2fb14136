package stream

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// peers are the outlets on sockets. It notices when a peer hangs up, which
// net/http would by reading: an epoll(7) of its own that waits for nothing else,
// and one goroutine for all of them while there are any.
//
// An event carries the outlet's number, not its descriptor, which may be
// another connection's by the time that it is read.
type peers struct {
	mu      sync.Mutex // guards what follows
	watched map[uint64]*outlet
	last    uint64
	refuse  bool     // cut was called
	epoll   *os.File // while there are any
	raw     syscall.RawConn
}

// watch registers an outlet on a connection. Of one that can't be waited for
// (nil) the next write shows that its peer is gone.
func (p *peers) watch(o *outlet, conn syscall.RawConn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return errHungUp
	}
	if p.epoll == nil {
		if err := p.start(o.session.server); err != nil {
			return err
		}
	}
	p.last++
	o.place = p.last
	p.watched[o.place] = o
	if conn == nil {
		return nil
	}
	event := syscall.EpollEvent{
		// The end of its side, a reset; told once.
		Events: syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
		Fd:     int32(o.place), Pad: int32(o.place >> 32), // 64 bits that the kernel hands back
	}
	var inner, err error
	outer := p.raw.Control(func(epoll uintptr) {
		inner = conn.Control(func(fd uintptr) {
			err = os.NewSyscallError("epoll_ctl", syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, int(fd), &event))
		})
	})
	return errors.Join(outer, inner, err)
}

// start makes the epoll and its goroutine. The caller holds mu.
func (p *peers) start(s *Server) error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that Go's poller waits for it
		return errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	p.epoll, p.raw, p.watched = file, raw, map[uint64]*outlet{}
	s.spawn(func() { p.wait(raw) })
	return nil
}

// wait ends when the epoll is closed.
func (p *peers) wait(epoll syscall.RawConn) {
	events := make([]syscall.EpollEvent, 128)
	for {
		n := 0
		err := epoll.Read(func(fd uintptr) (done bool) {
			var err error
			for n, err = syscall.EpollWait(int(fd), events, 0); errors.Is(err, syscall.EINTR); {
				n, err = syscall.EpollWait(int(fd), events, 0)
			}
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			place := uint64(uint32(event.Fd)) | uint64(uint32(event.Pad))<<32
			p.mu.Lock()
			o := p.watched[place]
			p.mu.Unlock()
			if o != nil {
				o.hungUp.Store(true)
				o.wake()
			}
		}
	}
}

// forget undoes watch; closing the connection takes it out of the epoll.
func (p *peers) forget(o *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.place == 0 {
		return
	}
	delete(p.watched, o.place)
	if len(p.watched) == 0 {
		_ = p.epoll.Close() // there is nothing to be lost
		p.epoll, p.raw, p.watched = nil, nil, nil
	}
}

// cut closes every connection, also one that is being drained, and those to come.
func (p *peers) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
	for _, o := range p.watched {
		o.hungUp.Store(true)
		o.link.close()
		o.wake()
	}
}
