package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/relay"
	"github.com/freshet-dev/freshet/store/setup"
)

// natsFlags say where a fleet's nodes meet.
type natsFlags struct {
	NATSURL     []string `name:"nats-url" group:"Fleet" placeholder:"URL" help:"Server of NATS, nats://host:4222, by which the nodes of one database have one of them capture, and tell the others. Several, of one cluster."`
	NATSCreds   string   `name:"nats-creds" group:"Fleet" placeholder:"FILE" type:"path" help:"Credentials of NATS' user, as nsc makes them; read with each attempt to connect. A URL may have user:password@ or token@ instead."`
	NATSCA      string   `name:"nats-ca" group:"Fleet" placeholder:"FILE" type:"path" help:"Whose certificates of NATS to trust, in PEM. Unset: the system's."`
	NATSCert    string   `name:"nats-cert" group:"Fleet" placeholder:"FILE" type:"path" help:"The node's own certificate for NATS, in PEM."`
	NATSKey     string   `name:"nats-key" group:"Fleet" placeholder:"FILE" type:"path" help:"Its key, in PEM."`
	NATSSubject string   `name:"nats-subject" group:"Fleet" default:"${nats_subject}" placeholder:"WORDS" help:"What all subjects begin with. Only nodes may be allowed to publish there."`
}

// configure says it to package server.
func (f *natsFlags) configure(c *server.Config) {
	c.NATSURLs, c.NATSCredentials, c.NATSRootCAs = f.NATSURL, f.NATSCreds, f.NATSCA
	c.NATSCert, c.NATSKey, c.NATSSubject = f.NATSCert, f.NATSKey, f.NATSSubject
}

// slowNATS is how long a message may take before doctor remarks on it: each notice of a
// node that is told takes as long.
const slowNATS = 5 * time.Millisecond

// natsFlagOf is the flag of a field of relay.Config; empty: it has none.
func natsFlagOf(field string) string {
	return map[string]string{ //nolint:gosec // names of flags
		"Servers": "--nats-url", "Credentials": "--nats-creds", "RootCAs": "--nats-ca",
		"Cert": "--nats-cert", "Key": "--nats-key", "Subject": "--nats-subject",
	}[field]
}

// examine returns why nodes would not hear each other.
func (f *natsFlags) examine(ctx context.Context) []setup.Problem {
	cfg := relay.Config{
		Servers: f.NATSURL, Credentials: f.NATSCreds, RootCAs: f.NATSCA, Cert: f.NATSCert, Key: f.NATSKey, Subject: f.NATSSubject,
	}
	err := cfg.CheckNATS()
	took := time.Duration(0)
	if err == nil && len(f.NATSURL) > 0 {
		took, err = relay.Check(ctx, cfg)
	}
	var field *relay.ConfigError
	switch {
	case errors.As(err, &field):
		return []setup.Problem{{Text: fmt.Sprintf("%s: want %s", natsFlagOf(field.Field), field.Want)}}
	case err != nil:
		return []setup.Problem{{Text: fmt.Sprintf("--nats-url: nodes would not hear each other: %v", err)}}
	}
	var problems []setup.Problem
	if len(f.NATSURL) > 1 {
		for _, useless := range relay.CheckServers(cfg) {
			problems = append(problems, setup.Problem{Warning: true, Text: fmt.Sprintf("--nats-url: one server is of no use, so nodes have the others only: %v", useless)})
		}
	}
	if took > slowNATS {
		problems = append(problems, setup.Problem{Warning: true, Text: fmt.Sprintf("--nats-url: a message takes %s from one connection to another: so much later than the node that captures do the others tell. Have servers of NATS near to the nodes", took.Round(100*time.Microsecond))})
	}
	return problems
}
