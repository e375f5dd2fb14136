package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet/bench/rig"
)

const topic = "bench"

// followers are open streams, each with somebody who reads.
type followers struct {
	frames  atomic.Int64 // invalidations that were read
	ended   atomic.Int64 // streams that are no more
	cancel  context.CancelFunc
	readers sync.WaitGroup
}

func (f *followers) close() {
	f.cancel()
	f.readers.Wait()
}

// follow opens streams, and returns when each has read `ready`.
func (w *way) follow(ctx context.Context, url string, pair *certificate, n int) (*followers, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &followers{cancel: cancel}
	var client *http.Client
	for i := range n {
		if i%w.perConn == 0 {
			client = w.client(pair)
		}
		if err := f.open(ctx, client, url); err != nil {
			f.close()
			return nil, fmt.Errorf("stream %d: %w", i+1, err)
		}
	}
	return f, nil
}

// client has one connection.
func (w *way) client(pair *certificate) *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1, ReadBufferSize: 1 << 10}
	t.Protocols.SetHTTP1(!w.h2)
	t.Protocols.SetHTTP2(w.h2 && w.tls)
	t.Protocols.SetUnencryptedHTTP2(w.h2 && !w.tls)
	if pair != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: pair.pool, ClientSessionCache: nil}
	}
	return &http.Client{Transport: t}
}

func (f *followers) open(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events?topic="+topic, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	in := bufio.NewReaderSize(resp.Body, 512)
	for line := ""; line != "event: ready\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			return errors.Join(err, resp.Body.Close())
		}
	}
	f.readers.Go(func() {
		defer f.ended.Add(1)
		defer func() { _ = resp.Body.Close() }() // it is ended by now
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if bytes.HasPrefix(line, []byte("event: invalidate")) {
				f.frames.Add(1)
			}
		}
	})
	return nil
}

// perFrame tells the topic, and returns the server's CPU per frame in µs.
func (f *followers) perFrame(ctx context.Context, p process, database string, o *options) (_ float64, err error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	idle, err := p.busy(ctx, o.Time)
	if err != nil {
		return 0, err
	}
	told := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / o.Rate))
		defer ticker.Stop()
		for range int(o.Rate * o.Time.Seconds()) {
			<-ticker.C
			if _, err := conn.Exec(ctx, "select pg_logical_emit_message(true, 'freshet', $1::text)", topic); err != nil {
				told <- err
				return
			}
		}
		told <- nil
	}()
	busy, err := p.busy(ctx, o.Time)
	if err = errors.Join(err, <-told); err != nil {
		return 0, err
	}
	rig.Wait(ctx, 500*time.Millisecond) // for the last of them to arrive
	frames := f.frames.Load()
	switch {
	case f.ended.Load() > 0:
		return 0, fmt.Errorf("%d streams ended", f.ended.Load())
	case float64(frames) < 0.5*o.Rate*o.Time.Seconds()*float64(o.Streams):
		return 0, fmt.Errorf("%d frames: half of them were merged, the machine is too busy for --rate=%g", frames, o.Rate)
	}
	return float64((busy - idle).Microseconds()) / float64(frames), nil
}

// process is the server's.
type process struct {
	pid   int
	admin rig.Admin
}

// busy is the CPU that it takes in a while.
func (p process) busy(ctx context.Context, d time.Duration) (time.Duration, error) {
	before, err := rig.CPUOf(p.pid)
	if err != nil {
		return 0, err
	}
	rig.Wait(ctx, d)
	after, err := rig.CPUOf(p.pid)
	return after - before, err
}

type memory struct{ inGo, resident float64 } // bytes

// memory is what it has in use after a garbage collection.
func (p process) memory(ctx context.Context) (m memory, err error) {
	for range 2 { // what has a finalizer goes with the second
		if err := p.admin.Collect(ctx); err != nil {
			return m, err
		}
	}
	of, err := p.admin.Metrics(ctx)
	if err != nil {
		return m, err
	}
	m.inGo = of["go_memstats_heap_alloc_bytes"] + of["go_memstats_stack_inuse_bytes"]
	m.resident = of["process_resident_memory_bytes"]
	if m.inGo == 0 || m.resident == 0 {
		return m, errors.New("the server's metrics lack its memory")
	}
	return m, nil
}

// certificate signs itself, for loopback.
type certificate struct {
	dir, cert, key string
	pool           *x509.CertPool
}

func newCertificate() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	c := &certificate{pool: x509.NewCertPool()}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	c.pool.AppendCertsFromPEM(text)
	if c.dir, err = os.MkdirTemp("", "freshet-bench-tls-"); err != nil {
		return nil, err
	}
	c.cert, c.key = filepath.Join(c.dir, "cert.pem"), filepath.Join(c.dir, "key.pem")
	return c, errors.Join(
		os.WriteFile(c.cert, text, 0o600),
		os.WriteFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
