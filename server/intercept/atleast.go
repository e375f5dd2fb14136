package intercept

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
)

// atLeast holds a request back until the node's frontier has reached what the
// caller has already seen. It judges mutations like reads: a caller that names
// a revision gets what it asked for or an error, whatever the method.
//
// Nothing that a client sends can make it wait for a position that the
// database has not reached (F23), and no database connection is held meanwhile.
func atLeast(node Hub, primary Primary, maxWait time.Duration, metrics *Metrics) step {
	w := &frontierWait{node: node, primary: primary, maxWait: maxWait, metrics: metrics}
	return func(next handler) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			rev, err := parseAtLeast(c.req.Header())
			if err != nil {
				return nil, err
			}
			if !rev.IsZero() {
				if err := w.pass(ctx, rev); err != nil {
					return nil, err
				}
				c.atLeast = rev
			}
			return next(ctx, c)
		}
	}
}

// parseAtLeast returns the highest revision of all Freshet-At-Least lines, or
// zero when there is none. It is strict: one bad element makes the request
// invalid. Empty elements of a list say nothing (RFC 9110, section 5.6.1), and an
// empty header asks for as much as none: a strong read.
func parseAtLeast(header http.Header) (freshet.Revision, error) {
	var highest freshet.Revision
	for _, line := range header.Values(HeaderAtLeast) {
		for text := range strings.SplitSeq(line, ",") {
			text = strings.Trim(text, " \t")
			if text == "" {
				continue
			}
			rev, err := freshet.ParseRevision(text)
			if err != nil {
				return freshet.Revision{}, atLeastUnknown(err)
			}
			highest = highest.Max(rev)
		}
	}
	return highest, nil
}

// frontierWait waits for the frontier.
type frontierWait struct {
	node    Hub
	primary Primary
	maxWait time.Duration
	metrics *Metrics

	mu    sync.Mutex       // guards known
	known freshet.Revision // the highest position that the primary has told
}

func (w *frontierWait) pass(ctx context.Context, rev freshet.Revision) error {
	frontier := w.node.Frontier()
	switch current := frontier.Max(w.node.Horizon()); {
	case rev.Epoch == frontier.Epoch && rev.Position <= frontier.Position:
		return nil
	case current.IsZero():
		return hub.ErrNotServing
	case rev.Epoch < current.Epoch:
		return epochChanged(current)
	case rev.Epoch > current.Epoch:
		// Somebody else may have seen a later history than we have.
		w.primary.Nudge()
		return unavailable("this node does not know the revision's history yet")
	}
	waiting, cancel := context.WithTimeout(ctx, w.maxWait) // for both together
	defer cancel()
	err := w.exists(waiting, rev)
	if err == nil {
		err = w.wait(waiting, rev)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// exists refuses a position that the primary's WAL has not reached: no honest
// client can have been given it.
func (w *frontierWait) exists(ctx context.Context, rev freshet.Revision) error {
	w.mu.Lock()
	known := w.known
	w.mu.Unlock()
	if rev.Epoch == known.Epoch && rev.Position <= known.Position {
		return nil
	}
	known, err := w.primary.InsertPosition(ctx)
	if err != nil {
		return unavailable("the database's position is not known right now")
	}
	w.mu.Lock()
	w.known = w.known.Max(known)
	w.mu.Unlock()
	switch {
	case rev.Epoch != known.Epoch:
		w.primary.Nudge()
		return unavailable("the database has begun another history, and this node is catching up")
	case rev.Position > known.Position:
		return atLeastUnknown(fmt.Errorf("%s is not a revision that this server has given: the database is at %s", rev, known))
	}
	return nil
}

func (w *frontierWait) wait(ctx context.Context, rev freshet.Revision) error {
	nudge := time.AfterFunc(nudgeDelay, w.primary.Nudge)
	defer nudge.Stop()
	began := time.Now()
	err := w.node.Wait(ctx, rev)
	w.metrics.waited(time.Since(began), err)
	var epoch *hub.EpochError
	if err == nil || errors.As(err, &epoch) {
		return err
	}
	return unavailable(fmt.Sprintf("this node has not reached %s within %v", rev, w.maxWait))
}
