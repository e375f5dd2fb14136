package server

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/server/relay"
	"github.com/freshet-dev/freshet/store/wal"
)

// relays reports whether the node is one of a fleet.
func (c Config) relays() bool { return len(c.NATSURLs) > 0 }

// aboutNATS is what the configuration says to package relay, about NATS.
func (c Config) aboutNATS() relay.Config {
	return relay.Config{
		Servers: c.NATSURLs, Credentials: c.NATSCredentials, RootCAs: c.NATSRootCAs, Cert: c.NATSCert, Key: c.NATSKey, Subject: c.NATSSubject,
	}
}

// checkNATS refuses what can't be meant, and files that aren't there.
func (c Config) checkNATS() error {
	var wrong *relay.ConfigError
	about := c.aboutNATS()
	if errors.As(about.CheckNATS(), &wrong) {
		field := "NATS" + wrong.Field
		if wrong.Field == "Servers" {
			field = "NATSURLs"
		}
		return &ConfigError{Field: field, Want: wrong.Want, Err: wrong.Err}
	}
	if c.NATSFallback && !c.relays() {
		return &ConfigError{Field: "NATSFallback", Want: "nothing, where no server of NATS is named: each node captures then"}
	}
	return nil
}

// joinFleet has the feed take turns with what other nodes tell, through publisher.
func (n *Node) joinFleet(publisher *relay.Publisher) (err error) {
	c := n.cfg
	about := c.aboutNATS()
	about.Scope = c.Slot + "-" + c.Publication + "-" + n.program.Hash()
	about.Fallback, about.MaxLag = c.NATSFallback, c.MaxLag
	about.State, about.OnChange, about.Logger = n.hub, n.wake, c.Logger
	n.relay, err = relay.New(about, n.feed, publisher)
	return err
}

// relayed is part of readiness: somebody can tell the node what changes, or nobody has to.
func (n *Node) relayed() error {
	if n.relay == nil {
		return nil
	}
	return n.relay.Ready()
}

// capture runs the feed until ctx ends: by itself, or in a fleet.
func (n *Node) capture(ctx context.Context) error {
	if n.relay == nil {
		return n.feed.Run(ctx)
	}
	return n.relay.Run(ctx)
}

var _ wal.Sink = (*relay.Publisher)(nil)

// observeRelay registers the metrics of a fleet's node.
func (n *Node) observeRelay() {
	if n.relay == nil || n.cfg.Registerer == nil {
		return
	}
	flag := func(name, help string, of func(relay.Stats) bool) {
		n.gauge(name, help, func() float64 {
			if of(n.relay.Stats()) {
				return 1
			}
			return 0
		})
	}
	flag("freshet_relay_connected", "1 while there is a connection to NATS.", func(s relay.Stats) bool { return s.Connected })
	flag("freshet_relay_capturing", "1 while the node captures by itself; 0: another one tells it what changes.", func(s relay.Stats) bool { return s.Capturing })
	flag("freshet_relay_holder", "1 while the node captures for the others of the fleet.", func(s relay.Stats) bool { return s.Holder })
	for name, value := range map[string]struct {
		help string
		of   func(relay.Stats) uint64
	}{
		"freshet_relay_sent_frames_total":     {"Frames that the node has told others.", func(s relay.Stats) uint64 { return s.Sent }},
		"freshet_relay_sent_bytes_total":      {"Their size.", func(s relay.Stats) uint64 { return s.SentBytes }},
		"freshet_relay_unsent_frames_total":   {"Frames that NATS did not take: others find a gap, and ask.", func(s relay.Stats) uint64 { return s.Unsent }},
		"freshet_relay_left_commits_total":    {"Commits too large for a message, or that NATS had no room for: others find a gap, and ask.", func(s relay.Stats) uint64 { return s.Left }},
		"freshet_relay_overflows_total":       {"Times that NATS took frames so slowly that those that waited were dropped: others find a gap, and ask.", func(s relay.Stats) uint64 { return s.Overflows }},
		"freshet_relay_received_frames_total": {"Frames of other nodes.", func(s relay.Stats) uint64 { return s.Received }},
		"freshet_relay_ignored_frames_total":  {"Frames of other nodes, of another history or not understood.", func(s relay.Stats) uint64 { return s.Ignored }},
		"freshet_relay_forged_messages_total": {"Messages on the fleet's subjects that no node of this database has sealed: dropped. Somebody else publishes there.", func(s relay.Stats) uint64 { return s.Forged }},
		"freshet_relay_gaps_total":            {"Times that something was missing between what the node knew and what it was told.", func(s relay.Stats) uint64 { return s.Gaps }},
		"freshet_relay_requests_total":        {"Requests for what was missing.", func(s relay.Stats) uint64 { return s.Asked }},
		"freshet_relay_answers_total":         {"Requests of others that the node has answered.", func(s relay.Stats) uint64 { return s.Answered }},
		"freshet_relay_horizons_total":        {"Times that nobody answered, so that the node began anew: clients refetch what they have from before.", func(s relay.Stats) uint64 { return s.Raised }},
	} {
		n.cfg.Registerer.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: value.help},
			func() float64 { return float64(value.of(n.relay.Stats())) }))
	}
}
