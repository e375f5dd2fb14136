package intercept

import (
	"context"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
)

// Causes tell what made topics change; *causes.Log implements it.
type Causes interface {
	// Of returns the newest change of one of the topics at or below a revision. ok is
	// false where none is known.
	Of(topics []string, upTo freshet.Revision) (change freshet.Change, ok bool)
}

// explain says in the answer of a read at-least a revision what may have made its
// caller ask: the newest change of the answer's topics up to that revision. It is
// below what authorizes the request's topics and above what authorizes the answer's,
// so nobody is told of a topic that they may not read. Without causes there is no such
// step.
func explain(from Causes, metrics *Metrics) step {
	metrics.explains()
	return func(next handler) handler {
		return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
			resp, err := next(ctx, c)
			if c.method == nil || c.method.Kind != contract.Read || c.atLeast.IsZero() || c.reply.stamp.IsZero() {
				return resp, err // also: a denial has left nothing of the reply
			}
			topics := c.depends // all of them
			if topics == nil {
				topics = c.topics
			}
			change, known := from.Of(topics, c.atLeast)
			switch {
			case c.reply.unkept && (!known || change.Revision != c.atLeast): // told again and again
				change = freshet.Change{What: freshet.Unsure}
			case !known:
				change = freshet.Change{What: freshet.Unknown}
			}
			c.reply.cause = encodeCause(change)
			metrics.explained(change.What)
			return resp, err
		}
	}
}

// encodeCause writes a change as a dictionary of structured fields (RFC 9651, section
// 3.2), in which topics are encoded as those of Freshet-Topics.
func encodeCause(c freshet.Change) string {
	var b strings.Builder
	text := func(key, value string) {
		if value != "" {
			b.WriteString(", " + key + `="` + value + `"`)
		}
	}
	b.WriteString("change=" + string(c.What))
	if c.Topic != "" {
		text("topic", encodeTopics([]string{c.Topic}))
	}
	text("pattern", encodePattern(c.Pattern))
	if c.Table != "" {
		text("table", encodeTopics([]string{c.Table}))
	}
	if c.Rows > 0 {
		b.WriteString(", rows=" + strconv.Itoa(c.Rows))
	}
	if !c.Revision.IsZero() {
		text("revision", c.Revision.String())
	}
	if c.XID != 0 {
		b.WriteString(", xid=" + strconv.FormatUint(uint64(c.XID), 10))
	}
	if !c.Time.IsZero() {
		text("time", c.Time.UTC().Format(time.RFC3339Nano))
	}
	return b.String()
}

// encodePattern leaves the asterisks, which no segment of a template has.
func encodePattern(p freshet.Pattern) string {
	segments := strings.Split(string(p), "/")
	for i, s := range segments {
		if s != "*" && s != "**" && s != "" {
			segments[i] = encodeTopics([]string{s})
		}
	}
	return strings.Join(segments, "/")
}
