package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fetchTimeout    = 5 * time.Second  // of discovery and keys together
	patience        = 6 * time.Second  // of a request that waits for them
	pause           = 10 * time.Second // between fetches that requests ask for
	refreshInterval = 5 * time.Minute
	firstRetry      = time.Second
	lastRetry       = 30 * time.Second
)

// issuer is an OpenID Connect provider. Its keys are fetched by run alone, on time
// or when a token names one that isn't known; never more often than each pause, for
// whoever invents names. What was fetched once is kept while nobody answers.
type issuer struct {
	name   string
	client *http.Client
	logger *slog.Logger
	now    func() time.Time
	set    atomic.Pointer[keySet]
	wake   chan struct{} // capacity 1: a fetch is wanted

	fetches func(result string) // counts them

	mu      sync.Mutex
	round   chan struct{} // closed when the fetch that is wanted, or under way, has ended; nil: there is none
	last    time.Time     // when a fetch last ended
	good    time.Time     // when one last brought keys; zero: never
	failing bool          // it failed
}

func newIssuer(name string, transport http.RoundTripper, logger *slog.Logger) *issuer {
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is
		own.DisableKeepAlives = true                           // once in five minutes
		transport = own
	}
	i := &issuer{name: name, logger: logger, now: time.Now, wake: make(chan struct{}, 1)}
	i.client = &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || i.check(r.URL) != nil {
			return errors.New("it leads too far, or away from https")
		}
		return nil
	}}
	return i
}

func (i *issuer) current() *keySet { return i.set.Load() }

func (i *issuer) find(ctx context.Context, kid, alg string) ([]key, *keySet, error) {
	set := i.set.Load()
	if set != nil {
		if keys := set.fitting(kid, alg); len(keys) > 0 {
			return keys, set, nil
		}
	}
	failing := i.ask(ctx)
	if set = i.set.Load(); set == nil {
		return nil, nil, errUnreachable
	}
	keys := set.fitting(kid, alg)
	if len(keys) == 0 && failing {
		return nil, nil, errUnreachable // it may be a new one
	}
	return keys, set, nil
}

// ask has the keys fetched, unless they just were, and waits for it. It returns
// whether that fails.
func (i *issuer) ask(ctx context.Context) (failing bool) {
	i.mu.Lock()
	round := i.round
	if round == nil && !i.last.IsZero() && i.now().Sub(i.last) < pause {
		defer i.mu.Unlock()
		return i.failing
	}
	if round == nil {
		round = i.begin()
		i.wake <- struct{}{} // empty: only here, with a round that is new, is it filled
	}
	i.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-round:
	case <-timer.C:
		return true
	case <-ctx.Done():
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failing
}

// begin returns the round that is wanted or under way. The caller holds mu.
func (i *issuer) begin() chan struct{} {
	if i.round == nil {
		i.round = make(chan struct{})
	}
	return i.round
}

// run fetches the keys until ctx ends.
func (i *issuer) run(ctx context.Context) {
	retry := firstRetry
	for {
		i.mu.Lock()
		i.begin()
		select {
		case <-i.wake: // this is what it wants
		default:
		}
		i.mu.Unlock()

		err := i.fetch(ctx)
		if ctx.Err() != nil {
			return // those who wait do so no longer than patience
		}
		wait := refreshInterval - rand.N(refreshInterval/10) //nolint:gosec // so that nodes don't ask together
		if err != nil {
			wait, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		i.end(ctx, err)

		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-i.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// end tells those who wait, and the log when it is another story than before.
func (i *issuer) end(ctx context.Context, err error) {
	i.mu.Lock()
	first := i.last.IsZero()
	was := i.failing
	i.last, i.failing = i.now(), err != nil
	result := "failed"
	if err == nil {
		i.good, result = i.last, "ok"
	}
	i.fetches(result)
	close(i.round)
	i.round = nil
	i.mu.Unlock()
	switch {
	case err != nil && (first || !was):
		i.logger.WarnContext(ctx, "an issuer's keys can't be fetched: those of before are kept, if there are any",
			"issuer", i.name, "error", err, "have", i.set.Load() != nil)
	case err == nil && (first || was):
		i.logger.InfoContext(ctx, "an issuer's keys were fetched", "issuer", i.name, "keys", len(i.set.Load().keys))
	}
}

// age is how long ago the keys were fetched, in seconds; -1: never.
func (i *issuer) age() float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.good.IsZero() {
		return -1
	}
	return i.now().Sub(i.good).Seconds()
}

// fetch asks where the keys are, and for them.
func (i *issuer) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	text, err := i.get(ctx, strings.TrimSuffix(i.name, "/")+discovery)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return errors.New("discovery: the answer is no JSON of a provider")
	}
	if found.Issuer != i.name {
		return fmt.Errorf("discovery: the provider calls itself %q: use that name", found.Issuer)
	}
	if text, err = i.get(ctx, found.Keys); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if set := i.set.Load(); set != nil && bytes.Equal(set.text, text) {
		return nil
	}
	set, err := parseKeys(text, false)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	i.set.Store(set)
	return nil
}

// check refuses an address that is less safe than the issuer's own.
func (i *issuer) check(u *url.URL) error {
	switch {
	case u.Host == "":
		return errors.New("there is no address to ask")
	case u.Scheme == "https", u.Scheme == "http" && IsLoopback(u.Hostname()) && strings.HasPrefix(i.name, "http:"):
		return nil
	}
	return errors.New("the address isn't https")
}

func (i *issuer) get(ctx context.Context, at string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("there is no address to ask")
	}
	if err := i.check(r.URL); err != nil {
		return nil, err
	}
	answer, err := i.client.Do(r)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the address
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", r.URL.Redacted(), answer.StatusCode)
	}
	return io.ReadAll(io.LimitReader(answer.Body, maxKeysBytes+1))
}
