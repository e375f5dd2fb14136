package intercept

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/contract"
)

// untold says of reads that they were answered for requests without topics, though
// their methods declare some: where a field is empty that all templates take. Such an
// answer is right and is not kept, but nobody can follow it, and to whom it is shown it
// looks fresh for ever. Each procedure is logged once.
type untold struct {
	logger  *slog.Logger
	metrics *Metrics
	told    map[string]*atomic.Bool // by procedure
}

func newUntold(cfg *Config) *untold {
	u := &untold{logger: cfg.Logger, metrics: cfg.Metrics, told: map[string]*atomic.Bool{}}
	for _, m := range cfg.Contract.Methods() {
		if m.Kind == contract.Read {
			u.told[m.Procedure] = new(atomic.Bool)
			cfg.Metrics.untoldReads(m.Procedure, 0) // so that it is there, at zero
		}
	}
	return u
}

// look is the step.
func (u *untold) look(next handler) handler {
	return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
		resp, err := next(ctx, c)
		if err != nil || c.method == nil || c.write || len(c.topics) > 0 || errors.Is(c.noTopics, errNoContract) {
			return resp, err
		}
		u.found(ctx, c.method, c.noTopics)
		return resp, nil
	}
}

// found counts a read, and logs the first of its procedure.
func (u *untold) found(ctx context.Context, m *contract.Method, why error) {
	u.metrics.untoldReads(m.Procedure, 1)
	if told := u.told[m.Procedure]; told == nil || told.Swap(true) {
		return
	}
	reason := "an unset or empty field leaves the request without topics"
	if why != nil {
		reason = "the request's topics can't be spelled"
	}
	u.logger.LogAttrs(ctx, slog.LevelWarn, "a read was answered that has no topics: nothing tells when its answer changes (told once for each procedure; docs/library.md, A request without topics)",
		slog.String("procedure", m.Procedure), slog.String("templates", strings.Join(m.Templates(), ", ")), slog.String("reason", reason))
}
