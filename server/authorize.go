package server

import (
	"context"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/intercept"
)

// Principal is who calls.
type Principal = intercept.Principal

// PrincipalOf returns who calls, for a handler: the zero Principal where nobody asked.
// A handler of a read that is `shared` must not look at it.
func PrincipalOf(ctx context.Context) Principal { return intercept.PrincipalOf(ctx) }

// Authenticate says who sent a request; see Config.
type Authenticate = intercept.Authenticate

// Action is what a caller wants to do with topics.
type Action = grants.Action

// The actions that an Authorize is asked about.
const (
	ActionRead      = grants.Read      // have an answer that depends on them
	ActionWrite     = grants.Write     // change what they tell of
	ActionSubscribe = grants.Subscribe // be told of their changes
)

// Authorize says who may do what; see Config.
type Authorize = intercept.Authorize

// ErrDenied is what an Authorize returns for a caller who has no grant, whether what
// was asked for exists or not.
var ErrDenied = grants.ErrDenied

// Grants has a grants file decide. Its OnChange is to call Reauthorize of the nodes
// that it decides for, and somebody has to Run it.
func Grants(file *grants.File) Authorize {
	return func(ctx context.Context, who Principal, action Action, topics []string) error {
		return file.Authorize(ctx, grants.Caller{Issuer: who.Issuer, Subject: who.Subject, Claims: who.Claims}, action, topics)
	}
}

// RevokedTopic is the topic that has Config.Authorize asked at once about all streams
// of a subject, whoever has issued it: a table's, if the contract says so, or one told
// by pg_logical_emit_message. Those that it denies end.
func RevokedTopic(subject string) string { return "freshet/revoked/" + contract.Escape(subject) }

// listener is the hub as capture fills it, with somebody who hears of revoked
// subjects, once what revoked them can be seen.
type listener struct {
	*hub.Hub
	heed  func(freshet.Commit)
	gap   func()
	began func(freshet.Epoch)

	begun bool // anew: what came before may be missing
}

func (l *listener) Publish(c freshet.Commit) {
	l.Hub.Publish(c)
	l.heed(c)
}

func (l *listener) Begin(horizon freshet.Revision) {
	l.begun = true
	l.Hub.Begin(horizon)
	l.began(horizon.Epoch)
}

func (l *listener) Serve(rev freshet.Revision) {
	l.Hub.Serve(rev)
	if l.begun {
		l.begun = false
		l.gap()
	}
}

// Reauthorize asks Config.Authorize again about every open stream, and ends those
// that it denies: to be called when something was withdrawn. (Config.Reauthorize does
// so by itself, now and then.) A stream about which
// nothing can be told now stays. It returns when all have been asked, or ctx ends,
// with ctx's error.
func (n *Node) Reauthorize(ctx context.Context) error { return n.streams.Reauthorize(ctx) }
