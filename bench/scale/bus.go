package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-dev/freshet/bench/rig"
)

// busCell is what one nats-server takes to send each of a publisher's messages to all
// subscribers.
type busCell struct {
	Subscribers int     `json:"subscribers"`
	Bytes       int     `json:"bytes"`     // of a message
	Rate        float64 `json:"rate"`      // of messages, a second
	Delivered   float64 `json:"delivered"` // a second, to all
	CPU         float64 `json:"cpus"`
}

// measureBus has a server of its own. Clients speak the protocol themselves (in lines,
// docs.nats.io/reference/reference-protocols/nats-protocol): they only send and count
// bytes, so that they take as little of the machine as they can.
func (m *measurement) measureBus(ctx context.Context, program string, to io.Writer) error {
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return fmt.Errorf("%w (a package of Debian's; --nats= leaves it out)", err)
	}
	m.NATS = strings.TrimSpace(string(version))
	for _, size := range []int{200, 2000, 20_000} {
		for _, subscribers := range []int{0, 4, 16, 64} {
			rate := min(500, 20_000_000/float64(size*max(1, subscribers)))
			c, err := measureBusCell(ctx, program, subscribers, size, rate)
			if err != nil {
				return fmt.Errorf("nats, %d subscribers, %d bytes: %w", subscribers, size, err)
			}
			fmt.Fprintf(to, "nats: %d subscribers, %d bytes, %.0f/s, %.0f delivered/s: %.4f CPUs\n", c.Subscribers, c.Bytes, c.Rate, c.Delivered, c.CPU)
			m.Bus = append(m.Bus, c)
		}
	}
	return nil
}

func measureBusCell(ctx context.Context, program string, subscribers, size int, rate float64) (c *busCell, err error) {
	const during = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, during+patience)
	defer cancel()
	address, err := rig.FreeAddr(ctx)
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(ctx, program, "-a", host, "-p", port)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		if end := cmd.Wait(); c == nil {
			err = errors.Join(err, end)
		}
	}()
	var received atomic.Int64
	var readers sync.WaitGroup
	defer readers.Wait()
	var all []net.Conn
	defer func() {
		for _, conn := range all {
			err = errors.Join(err, conn.Close())
		}
	}()
	for range subscribers + 1 {
		conn, in, err := dialBus(ctx, address)
		if err != nil {
			return nil, err
		}
		all = append(all, conn)
		if len(all) > subscribers {
			break // the publisher
		}
		if _, err := io.WriteString(conn, "SUB frames 1\r\nPING\r\n"); err != nil {
			return nil, err
		}
		if line, err := in.ReadString('\n'); err != nil || line != "PONG\r\n" {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		readers.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := in.Read(buf)
				received.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	message := fmt.Appendf(nil, "PUB frames %d\r\n%s\r\n", size, bytes.Repeat([]byte("x"), size))
	frame := int64(len(fmt.Sprintf("MSG frames 1 %d\r\n", size)) + size + 2)
	sent := 0
	publish := func(ctx context.Context) error {
		return atRate(ctx, rate, func() error {
			sent++
			_, err := all[subscribers].Write(message)
			return err
		})
	}
	warm, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	defer stop()
	if err := publish(warm); err != nil {
		return nil, err
	}
	before, err := rig.RanFor(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	began, sentBefore, receivedBefore := time.Now(), sent, received.Load()
	timed, stopTimed := context.WithTimeout(ctx, during)
	defer stopTimed()
	if err := publish(timed); err != nil {
		return nil, err
	}
	rig.Wait(ctx, 50*time.Millisecond) // for the last of them
	after, err := rig.RanFor(cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	c = &busCell{
		Subscribers: subscribers, Bytes: size, Rate: float64(sent-sentBefore) / seconds,
		Delivered: float64((received.Load()-receivedBefore)/frame) / seconds, CPU: (after - before).Seconds() / seconds,
	}
	if c.Delivered < 0.9*c.Rate*float64(subscribers) {
		return c, fmt.Errorf("%.0f of %.0f messages a second arrived", c.Delivered, c.Rate*float64(subscribers))
	}
	return c, nil
}

// dialBus connects once the server listens.
func dialBus(ctx context.Context, address string) (net.Conn, *bufio.Reader, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			if rig.Wait(ctx, 20*time.Millisecond); ctx.Err() != nil {
				return nil, nil, errors.Join(ctx.Err(), err)
			}
			continue
		}
		in := bufio.NewReader(conn)
		if _, err = in.ReadString('\n'); err == nil { // INFO
			_, err = io.WriteString(conn, "CONNECT {\"verbose\":false}\r\n")
		}
		if err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
		return conn, in, nil
	}
}
