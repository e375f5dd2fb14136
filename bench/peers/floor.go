package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// floor is the least that telling everyone over sockets of their own can cost:
// a write(2) per connection, from one thread. A connection that takes no more
// misses the notice.
type floor struct {
	inProcess

	listener net.Listener

	mu    sync.Mutex // guards what follows
	conns []net.Conn // kept open
	fds   []int
}

func startFloor(o options) (server, error) {
	f := new(floor)
	listener, err := f.listen(o)
	if err != nil {
		return nil, err
	}
	f.listener = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				if err := f.accept(conn); err != nil {
					_ = conn.Close()
				}
			}()
		}
	}()
	return f, nil
}

// accept reads a request's head and answers it.
func (f *floor) accept(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	head, b := []byte(nil), make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		head = append(head, b[0])
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	// Registered first: whoever has the head of a response gets what follows.
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := raw.Control(func(fd uintptr) { f.fds = append(f.fds, int(fd)) }); err != nil { //nolint:gosec // a descriptor
		return err
	}
	f.conns = append(f.conns, conn)
	_, err = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"))
	return err
}

func (f *floor) publish(n notice) error {
	frame := n.frame()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.fds {
		if _, err := syscall.Write(fd, frame); err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return nil
}

func (f *floor) close() error {
	err := f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}
