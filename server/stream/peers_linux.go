package stream

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// peers are the streams whose connections were taken over, and notices when one of
// their clients hangs up. net/http finds that out by a goroutine per connection that
// reads; so would we, and the point of taking over is to have none. So one epoll(7)
// of our own waits for the hang-ups of all of them, and for nothing else, with one
// goroutine while there are any.
//
// The kernel hands back 64 bits of ours with an event. They are the number that the
// outlet has here (its place), not its file descriptor: by the time that the event
// is read the connection may be closed, and its descriptor another connection's.
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
		// RDHUP is the end of the peer's side; a reset is told unasked. What it
		// sends is of no interest. ONESHOT: told once, or an end that stays true
		// would be told again and again until we have closed.
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

// start makes the epoll and its goroutine. An epoll can itself be waited for: it is
// readable while it has events. Handed to Go's poller as a file, it costs no thread
// that blocks in epoll_wait(2), and closing it ends the wait. The caller holds mu.
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

// wait wakes the outlets whose peers hang up. Read calls the function each time that
// the epoll is readable; the function doesn't wait itself (a timeout of 0), and
// returns false to have Go's poller wait. It ends when the epoll is closed.
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
