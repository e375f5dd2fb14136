package relay

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// checkTimeout bounds Check.
const checkTimeout = 5 * time.Second

// Check proves that two nodes with this configuration would hear each other, and says
// how long that takes. Of cfg only what is about NATS counts. The error says what is in
// the way, and what to do: a *ConfigError, *ConnectError or *SubjectError.
func Check(ctx context.Context, cfg Config) (took time.Duration, err error) {
	cfg.Scope, cfg.State = "doctor", noState{}
	if err := cfg.validate(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	refused := make(chan error, 8)
	onError := nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default:
		}
	})
	var conns [2]*nats.Conn
	for i := range conns {
		if conns[i], err = cfg.dial(true, onError); err != nil {
			return 0, err
		}
		defer conns[i].Close()
	}
	heard := make(chan *nats.Msg, 1)
	subject := cfg.Subject + ".doctor." + rand.Text()
	if _, err := conns[0].ChanSubscribe(subject, heard); err != nil {
		return 0, fmt.Errorf("relay: subscribe: %w", err)
	}
	if err := conns[0].FlushWithContext(ctx); err != nil {
		return 0, fmt.Errorf("relay: subscribe: %w", err)
	}
	began := time.Now()
	if err := conns[1].Publish(subject, []byte("?")); err != nil {
		return 0, fmt.Errorf("relay: publish: %w", err)
	}
	select {
	case <-heard:
		return time.Since(began), nil
	case err := <-refused:
		return 0, &SubjectError{Subject: cfg.Subject, Fault: FaultPermissions, Err: err}
	case <-ctx.Done():
		return 0, &SubjectError{Subject: cfg.Subject, Fault: FaultApart}
	}
}

// ServerError says why one server of several is of no use.
type ServerError struct {
	Server string // its URL without user and password
	Err    error  // a *ConnectError, as a rule
}

func (e *ServerError) Error() string { return e.Server + ": " + e.Err.Error() }

// Unwrap returns what is in the way.
func (e *ServerError) Unwrap() error { return e.Err }

// CheckServers says which servers of a configuration that has passed Check a node could
// not use, were they alone.
func CheckServers(cfg Config) (useless []*ServerError) {
	found := make([]*ServerError, len(cfg.Servers))
	var all sync.WaitGroup
	for i, server := range cfg.Servers {
		all.Go(func() {
			alone := cfg
			alone.Servers = []string{server}
			nc, err := alone.dial(true)
			if err == nil {
				nc.Close()
				return
			}
			name := "a server"
			if u, err := url.Parse(server); err == nil {
				name = u.Scheme + "://" + u.Host
			}
			found[i] = &ServerError{Server: name, Err: err}
		})
	}
	all.Wait()
	return slices.DeleteFunc(found, func(e *ServerError) bool { return e == nil })
}

// noState answers nobody.
type noState struct{ State }
