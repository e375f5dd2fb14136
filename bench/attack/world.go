package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/bench/rig"
)

// world is who there is, and where the server is.
type world struct {
	dir                 string
	key                 *ecdsa.PrivateKey
	keys, grants, token string   // files
	good, poor          string   // tokens: of those who behave, of somebody who may nothing
	many                []string // tokens: of those who have the streams
	url                 string
	admin               rig.Admin
	pid                 int
	last                [conversations]atomic.Pointer[string] // the stamp of the last write to each
}

const grantsText = `rules:
  - when: claims.scope == 'all'
    read: [messages, "conversations/**"]
    write: ["conversations/**"]
`

func newWorld(dir string) (w *world, err error) {
	w = &world{dir: dir, keys: filepath.Join(dir, "keys.pem"), grants: filepath.Join(dir, "grants.yaml"), token: filepath.Join(dir, "token")}
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(w.key.Public())
	if err != nil {
		return nil, err
	}
	if w.good, err = w.sign("ada", "all"); err != nil {
		return nil, err
	}
	for n := range 100 {
		token, err := w.sign(fmt.Sprintf("reader-%d", n), "all")
		if err != nil {
			return nil, err
		}
		w.many = append(w.many, token)
	}
	w.poor, err = w.sign("eve", "none")
	return w, errors.Join(err,
		os.WriteFile(w.keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
		os.WriteFile(w.grants, []byte(grantsText), 0o600),
		os.WriteFile(w.token, []byte(w.good), 0o600))
}

func (w *world) sign(subject, scope string) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.key}, nil)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"iss": "https://id.example.com", "sub": subject, "aud": "bench", "scope": scope, "exp": time.Now().Add(12 * time.Hour).Unix()})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// streams are those of the ones who behave.
type streams struct {
	conns   []net.Conn
	readers sync.WaitGroup
	ended   atomic.Int64
}

func (s *streams) close() {
	for _, c := range s.conns {
		_ = c.Close() // to be ended
	}
	s.readers.Wait()
}

func (w *world) openStreams(ctx context.Context, n int) (*streams, error) {
	s := new(streams)
	addr := strings.TrimPrefix(w.url, "http://")
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, conn)
		in := bufio.NewReaderSize(conn, 512)
		_, err = fmt.Fprintf(conn, "GET /events?topic=conversations/bench-%d/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", i%conversations, w.many[i%len(w.many)])
		for line := ""; err == nil && line != "event: ready\n"; {
			line, err = in.ReadString('\n')
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("stream %d: %w", i+1, err)
		}
		s.readers.Go(func() {
			_, _ = io.Copy(io.Discard, in) // until it ends
			s.ended.Add(1)
		})
	}
	return s, nil
}

const conversations = 100

// fill writes a page of messages to each conversation: answers are as large at the
// beginning as at the end.
func (w *world) fill() error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var all errgroup.Group
	for c := range conversations {
		all.Go(func() error {
			for range 50 {
				if err := w.write(client, c); err != nil {
					return fmt.Errorf("fill a conversation: %w", err)
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// write writes to a conversation, and remembers the stamp.
func (w *world) write(client *http.Client, c int) error {
	stamp, err := w.call(client, "CreateMessage", fmt.Sprintf(`{"parent":"conversations/bench-%d","message":{"author":"a","body":"b"}}`, c), w.good)
	if err == nil {
		w.last[c].Store(&stamp)
	}
	return err
}

// read reads a conversation as one does who has been told of the last write to it.
func (w *world) read(client *http.Client, c int) error {
	body := fmt.Sprintf(`{"parent":"conversations/bench-%d"}`, c)
	_, err := w.call(client, "ListMessages", body, w.good, "Freshet-At-Least", *w.last[c].Load())
	return err
}

// summary is what came of calls.
type summary struct {
	n      int
	ms     []float64 // sorted
	failed map[string]int
}

func (s *summary) quantile(q float64) float64 {
	if len(s.ms) == 0 {
		return 0
	}
	return s.ms[min(int(q*float64(len(s.ms))), len(s.ms)-1)]
}

func (s *summary) failures() string {
	if len(s.failed) == 0 {
		return "0"
	}
	return fmt.Sprint(s.failed)
}

// calls makes so many a second until ctx ends: one in a hundred is a write.
func (w *world) calls(ctx context.Context, rate float64, counts time.Time) (s summary) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	s.failed = map[string]int{}
	var mu sync.Mutex // guards s
	var all sync.WaitGroup
	begin := time.Now()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			do := w.read
			if n%100 == 0 {
				do = w.write
			}
			err := do(client, mathrand.IntN(conversations))
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case due.Before(counts):
			case err != nil:
				s.failed[err.Error()]++
			default:
				s.n++
				s.ms = append(s.ms, float64(took.Microseconds())/1000)
			}
		})
	}
	all.Wait()
	slices.Sort(s.ms)
	return s
}

// call returns the answer's stamp.
func (w *world) call(client *http.Client, rpc, body, token string, header ...string) (stamp string, err error) {
	req, err := http.NewRequest(http.MethodPost, w.url+"/messages.v1.MessageService/"+rpc, strings.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", errors.New("no answer")
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return "", errors.New("half an answer")
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return resp.Header.Get("Freshet-Revision"), nil
}

// series is something as it was again and again.
type series []float64

// String is the mean, and how far the means of twelve in a row, a minute's, are from
// it at most.
func (s series) String() string {
	if len(s) == 0 {
		return "?"
	}
	all, far := mean(s), 0.0
	for _, minute := range s.minutes() {
		far = max(far, math.Abs(minute-all))
	}
	return fmt.Sprintf("%.0f (minutes ± %.1f %%)", all, 100*far/all)
}

// minutes are the means of minutes, or of what there is of the last.
func (s series) minutes() (means []float64) {
	for minute := range slices.Chunk(s, samplesAMinute) {
		means = append(means, mean(minute))
	}
	return means
}

func mean(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

const samplesAMinute = 12

// sample looks at the server every few seconds, after a garbage collection.
func (w *world) sample(ctx context.Context, counts time.Time, p *part) error {
	ticker := time.NewTicker(time.Minute / samplesAMinute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if time.Now().Before(counts) {
			continue
		}
		if err := w.admin.Collect(ctx); err != nil {
			return ignore(ctx, err)
		}
		values, err := w.admin.Metrics(ctx)
		if err != nil {
			return ignore(ctx, err)
		}
		p.memory = append(p.memory, values["process_resident_memory_bytes"]/(1<<20))
		p.heap = append(p.heap, (values["go_memstats_heap_alloc_bytes"]+values["go_memstats_stack_inuse_bytes"])/(1<<20))
		p.routines = append(p.routines, values["go_goroutines"])
	}
}

// ignore is nil where err is only the end of the part.
func ignore(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
