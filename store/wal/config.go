package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/primary"
	"github.com/freshet-dev/freshet/store/setup"
)

// Sink receives what the feed proves, in order, from one goroutine at a time.
type Sink interface {
	// Begin starts a new history (another epoch), or the same one after a
	// gap: nothing at or below horizon is known, and nothing is served until
	// Serve.
	Begin(horizon freshet.Revision)
	// Publish tells one commit, proven visible on the primary; between Serve
	// and Begin the frontier moves with it.
	Publish(commit freshet.Commit)
	// Serve says that the sink has caught up: the frontier begins at rev.
	Serve(rev freshet.Revision)
	// Advance moves the frontier where nothing of the contract changed.
	Advance(rev freshet.Revision)
	// Quarantine says of which topics commits may not be told from the next
	// Publish or Advance on: those that the patterns match. It replaces what was
	// said before; none is the rule.
	Quarantine(topics []freshet.Pattern)
	// Current says that the frontier has reached all that the primary had
	// flushed at asOf.
	Current(asOf time.Time)
}

// Config says what to capture. Zero values of the optional fields take the
// defaults named beside them.
type Config struct {
	// URL of the primary, direct (not through a pooler); its role needs
	// REPLICATION. It may name several hosts, of which the primary is found. Required,
	// unless Connect is set.
	URL string
	// Connect says how to connect in the URL's place, before each connection. Its
	// answer becomes the feed's.
	Connect func(ctx context.Context) (*pgx.ConnConfig, error)
	// Program names the sources. Required.
	Program *contract.Program
	// Sink receives the commits. Required.
	Sink Sink
	// OnChange is called when Ready may answer otherwise than before, but for the
	// lag, which grows with the clock. It must not block. Nil: nobody is.
	OnChange func()
	// BeforeTold is called with each commit of one transaction that the sink is about
	// to be given, and the low 32 bits of its id. It must not block. Nil: nobody is
	// told.
	BeforeTold func(xid uint32, commit freshet.Commit)

	// Explain has commits say why they tell what (freshet.Commit.Changes): a map entry
	// for each topic of a transaction, and for each change in the gate.
	Explain bool

	// Secret says that nodes tell each other what happens, so Feed.Secret is wanted.
	Secret bool

	// Logger; nil discards.
	Logger *slog.Logger

	Slot        string // replication slot, the same for all nodes, of 54 characters at most; "freshet"
	Publication string // publication; "freshet"

	// The replay window: how far the slot is kept behind what was applied, by time
	// and by WAL, whichever is less; and how often it is moved. 60 s, 64 MiB, 10 s.
	WindowAge    time.Duration
	WindowBytes  uint64
	KeepInterval time.Duration

	ProbeInterval time.Duration // how often the primary's position is read; 10 ms
	WatchInterval time.Duration // how often the watchdog looks, and where a new connection would lead is asked; 5 s
	Linger        time.Duration // how long a busy stream is left to gather, at most; 5 ms, negative: not at all
	MaxLag        time.Duration // decoding lag at which readiness fails; 5 s
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (c *Config) validate() error {
	switch {
	case c.URL == "" && c.Connect == nil:
		return errors.New("wal: no database URL")
	case c.Program == nil:
		return errors.New("wal: no contract")
	case c.Sink == nil:
		return errors.New("wal: no sink")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Connect == nil {
		c.Connect = func(context.Context) (*pgx.ConnConfig, error) { return setup.ParseConfig(c.URL) }
	}
	c.Connect = primary.Of(c.Connect, c.Logger)
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
	c.Slot = cmp.Or(c.Slot, "freshet")
	c.Publication = cmp.Or(c.Publication, "freshet")
	c.WindowAge = cmp.Or(c.WindowAge, time.Minute)
	c.WindowBytes = cmp.Or(c.WindowBytes, 64<<20)
	c.KeepInterval = cmp.Or(c.KeepInterval, 10*time.Second)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, 10*time.Millisecond)
	c.WatchInterval = cmp.Or(c.WatchInterval, 5*time.Second)
	c.Linger = cmp.Or(c.Linger, 5*time.Millisecond)
	c.MaxLag = cmp.Or(c.MaxLag, 5*time.Second)
	if len(c.Slot) > setup.MaxSlotName {
		return fmt.Errorf("wal: %q can't name a slot: use %d characters at most, since each node adds some to the name of its copy", c.Slot, setup.MaxSlotName)
	}
	for _, name := range []string{c.Slot, c.Publication} {
		if !identifier.MatchString(name) {
			return fmt.Errorf("wal: %q can't name a slot or a publication: use lower-case letters, digits and _", name)
		}
	}
	return nil
}
