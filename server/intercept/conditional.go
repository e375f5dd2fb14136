package intercept

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// conditional answers GETs with an entity tag, and with 304 when the caller
// has the answer already (RFC 9110, section 13.1.2). The stamp is new either
// way. Nobody else may keep the answer, and nobody uses it without asking. What
// was read in quarantine isn't kept at all.
func conditional(next handler) handler {
	return func(ctx context.Context, c *call) (connect.AnyResponse, error) {
		resp, err := next(ctx, c)
		if err != nil || c.req.HTTPMethod() != http.MethodGet {
			return resp, err
		}
		if c.reply.unkept {
			if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
				info.ResponseHeader().Set("Cache-Control", "no-store")
			}
			return resp, nil
		}
		tag, ok := entityTag(resp.Any())
		if !ok {
			return resp, nil
		}
		header := http.Header{"Etag": {tag}, "Cache-Control": {"private, no-cache"}}
		if matches(c.req.Header().Values("If-None-Match"), tag) {
			return nil, connect.NewNotModifiedError(header)
		}
		if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
			for key, values := range header {
				info.ResponseHeader()[key] = values
			}
		}
		return resp, nil
	}
}

// entityTag is a 128-bit hash of the message's deterministic bytes. The form
// of the message on the wire is part of a GET's URL, so it need not be in it.
func entityTag(message any) (string, bool) {
	m, ok := message.(proto.Message)
	if !ok {
		return "", false
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", false
	}
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:16]) + `"`, true
}

// matches compares weakly, as If-None-Match asks for.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
