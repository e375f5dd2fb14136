package intercept

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
)

// maxTopicsHeader bounds Freshet-Topics, in bytes as encoded. Above it the
// header is left out and the stream brings the topics.
const maxTopicsHeader = 2 << 10

// reply is what the inner interceptors decide about the response of one call.
// It belongs to the call's own goroutine.
type reply struct {
	stamp   freshet.Revision // zero: no stamp
	pinned  bool             // stamp is the frontier that a flight began with
	atLeast freshet.Revision // what the caller asked for, and the frontier has reached; zero: a strong read
	topics  []string         // nil: not known
	cache   string           // a value of HeaderCache; "": not said
	unkept  bool             // nobody may keep the answer, nor compare it with one that was kept
}

type replyKey struct{}

// replyOf returns the call's reply; outside of a chain, one that nobody reads.
func replyOf(ctx context.Context) *reply {
	if r, ok := ctx.Value(replyKey{}).(*reply); ok {
		return r
	}
	return new(reply)
}

// respond is the outermost interceptor and the one place where errors become
// codes and where our headers are set. Stamp and topics are on what is said
// about data only, success or error.
type respond struct {
	logger  *slog.Logger
	metrics *Metrics
}

func (i *respond) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		r := new(reply)
		done := i.metrics.began(req.Spec().Procedure)
		resp, err := next(context.WithValue(ctx, replyKey{}, r), req)
		if err != nil {
			cerr := i.translate(ctx, req.Spec().Procedure, err)
			done(cerr)
			if !codeIsAboutData(cerr) {
				r.stamp, r.topics = freshet.Revision{}, nil
			}
			r.write(cerr.Meta())
			return nil, cerr
		}
		done(nil)
		// Not on the response itself: it may be one that many are sent.
		if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
			r.write(info.ResponseHeader())
		}
		return resp, nil
	}
}

func (i *respond) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, conn); err != nil {
			return i.translate(ctx, conn.Spec().Procedure, err)
		}
		return nil
	}
}

func (i *respond) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i *respond) translate(ctx context.Context, procedure string, err error) *connect.Error {
	cerr := translate(ctx, err)
	if cerr.Code() == connect.CodeInternal {
		i.logger.LogAttrs(ctx, slog.LevelError, "rpc failed",
			slog.String("procedure", procedure),
			slog.String("request_id", RequestIDOf(ctx)),
			slog.Any("error", err))
	}
	return cerr
}

func (r *reply) write(header http.Header) {
	if !r.stamp.IsZero() {
		header.Set(HeaderRevision, r.stamp.String())
	}
	if r.cache != "" {
		header.Set(HeaderCache, r.cache)
	}
	if len(r.topics) > 0 {
		if value := encodeTopics(r.topics); len(value) <= maxTopicsHeader {
			header.Set(HeaderTopics, value)
		}
	}
}

// encodeTopics joins topics by commas; in each, every byte but `/` and the
// unreserved ones of RFC 3986 section 2.3 is percent-encoded, so that
// splitting at commas and decodeURIComponent restore them.
func encodeTopics(topics []string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for n, topic := range topics {
		if n > 0 {
			b.WriteByte(',')
		}
		for i := range len(topic) {
			c := topic[i]
			if c == '/' || isUnreserved(c) {
				b.WriteByte(c)
				continue
			}
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
