package intercept

import (
	"net/http"
	"strings"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/reuse"
)

// Headers of a request and of its response. In gRPC they are metadata.
const (
	HeaderAtLeast  = "Freshet-At-Least"
	HeaderRevision = "Freshet-Revision"
	HeaderTopics   = "Freshet-Topics"
	// HeaderCache says where the answer of a read comes from: a reuse.Source.
	HeaderCache = "Freshet-Cache"
	// HeaderCause says what may have made a client read again, where Config.Causes
	// tell: see explain.
	HeaderCause = "Freshet-Cause"
	// HeaderPrincipal says, of a read whose topics take claims of the caller, which
	// values they have: contract.Method.Caller.
	HeaderPrincipal = "Freshet-Principal"
)

// maxTopicsHeader bounds Freshet-Topics, in bytes as encoded. Above it the
// header is left out and the stream brings the topics.
const maxTopicsHeader = 2 << 10

// reply is what the steps decide about the headers of a response.
type reply struct {
	stamp  freshet.Revision // zero: no stamp
	topics []string         // nil: not known
	from   reuse.Source     // "": not said
	caller string           // "": its topics are the same for all callers
	unkept bool             // nobody may keep the answer, nor compare it with one that was kept
	cause  string           // "": not said
}

func (r *reply) write(header http.Header) {
	if !r.stamp.IsZero() {
		header.Set(HeaderRevision, r.stamp.String())
	}
	if r.cause != "" && !r.stamp.IsZero() { // of an answer
		header.Set(HeaderCause, r.cause)
	}
	if r.from != "" {
		header.Set(HeaderCache, string(r.from))
	}
	if r.caller != "" {
		header.Set(HeaderPrincipal, r.caller)
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
