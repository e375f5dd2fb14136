package check

import (
	"context"
	"net/url"
	"strings"
)

// headerPrincipal is in an answer whose topics take claims of the caller.
const headerPrincipal = "Freshet-Principal"

type callerKey struct{}

// asCaller has requests and streams be those of the caller whose place it is; empty: of
// whoever Config.Token is.
func asCaller(ctx context.Context, place string) context.Context {
	return context.WithValue(ctx, callerKey{}, place)
}

func callerOf(ctx context.Context) string {
	place, _ := ctx.Value(callerKey{}).(string)
	return place
}

// bearerToken is the token of whoever ctx says; empty: none is sent.
func (c *Config) bearerToken(ctx context.Context) (string, error) {
	switch place := callerOf(ctx); {
	case place != "":
		return c.TokenOf(ctx, place)
	case c.Token != nil:
		return c.Token(ctx)
	default:
		return "", nil
	}
}

// named is the topic that an answer says it depends on, by the value of the claim that
// the topic takes; nothing: it doesn't say.
func (d *directory) named(header string) []string {
	p := d.of.topics[OfCaller].pattern
	for pair := range strings.SplitSeq(header, ",") {
		name, segment, _ := strings.Cut(pair, "=")
		if value, err := url.PathUnescape(segment); err == nil && name == p.claim && value != "" {
			return []string{callerTopic(value)}
		}
	}
	return nil
}

// another has somebody else use the client, sometimes: with another token, and what was
// shown to the one before is nobody's.
func (s *subject) another() {
	if len(s.callers) == 0 || s.caller != "" && s.rng.IntN(2) == 0 {
		return
	}
	if s.caller != "" {
		s.rec.did(anotherCaller)
		s.drop(callerTopic(s.caller))
	}
	s.caller = s.callers[s.rng.IntN(len(s.callers))]
	s.add(callerTopic(s.caller))
}
