package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/claimtext"
)

// Topics out of the principal: `{principal.org_id}` takes a claim of the caller, by
// dots where it is a member of an object. It fills one segment, escaped as all values
// are. What it promises:
//
//	R2  A method as one caller has it (For) has topics of that caller's claims and of
//	    no others; two callers whom Caller names alike have the same topics for one
//	    request, and for one answer.
//
// A claim that isn't there refuses the call. To drop the topic, as an empty field
// does, would leave an answer that nobody is told of.

// claimPrefix begins the fields that are claims.
const claimPrefix = "principal."

// isClaim reports whether a template's field is a claim of the caller.
func isClaim(path string) bool { return strings.HasPrefix(path, claimPrefix) }

// maxClaims bounds the claims of one method: its callers are told them in a header.
const maxClaims = 8

// fleetingClaims are others in each token, and say nothing of the caller.
var fleetingClaims = []string{"exp", "iat", "nbf", "jti"}

// ClaimError says that a caller has no claim that a method's topics take, or none that
// could be in a topic. Its text may be shown to the caller: it holds no value.
type ClaimError struct {
	Procedure, Claim string
	Reason           string
}

func (e *ClaimError) Error() string {
	return fmt.Sprintf("%s: its topics take the caller's claim %q, and %s; ask for a token that has it, or have it added to the tokens", e.Procedure, e.Claim, e.Reason)
}

// Claims returns the claims of the caller that the method's topics take, sorted; nil:
// none, so that each caller has the same topics.
func (m *Method) Claims() []string { return m.claims }

// For returns the method as a caller with these claims has it: m itself, if its topics
// take none. Without it such a method has no topics. The error is a *ClaimError.
func (m *Method) For(claims map[string]any) (*Method, error) {
	if len(m.claims) == 0 {
		return m, nil
	}
	values := make([]string, len(m.claims))
	for i, name := range m.claims {
		value, reason := claimOf(claims, name)
		if reason != "" {
			return nil, &ClaimError{Procedure: m.Procedure, Claim: name, Reason: reason}
		}
		values[i] = value
	}
	return m.as(values), nil
}

// claimOf returns the text of a claim, or why there is none.
func claimOf(claims map[string]any, name string) (text, reason string) {
	var value any = claims
	for member := range strings.SplitSeq(name, ".") {
		object, _ := value.(map[string]any)
		value = object[member]
	}
	switch text = claimtext.Of(value); {
	case value == nil:
		return "", "the caller has none"
	case value == "":
		return "", "it is empty"
	case text == "":
		return "", "it is neither a string nor an integer nor a bool"
	case len(text) > freshet.MaxTopicBytes:
		return "", fmt.Sprintf("it is longer than a topic (%d bytes)", freshet.MaxTopicBytes)
	}
	return text, ""
}

func (m *Method) as(values []string) *Method {
	bound := *m
	bound.values = values
	return &bound
}

// Caller is what the method knows of its caller by For: "app.role=admin,org_id=acme",
// with each value escaped as in a topic, in the order of Claims. Empty: its topics take
// no claims, or For has not been asked.
func (m *Method) Caller() string {
	var b strings.Builder
	for i, value := range m.values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.claims[i] + "=" + Escape(value))
	}
	return b.String()
}

// ForCaller is For by what Caller said, which a server tells its clients of.
func (m *Method) ForCaller(text string) (*Method, error) {
	if len(m.claims) == 0 {
		return m, nil
	}
	pairs := strings.Split(text, ",")
	if len(pairs) != len(m.claims) {
		return nil, m.errCaller()
	}
	values := make([]string, len(pairs))
	for i, pair := range pairs {
		name, segment, _ := strings.Cut(pair, "=")
		value, ok := unescape(segment)
		if name != m.claims[i] || !ok || value == "" || Escape(value) != segment {
			return nil, m.errCaller()
		}
		values[i] = value
	}
	return m.as(values), nil
}

func (m *Method) errCaller() error {
	return fmt.Errorf("contract: %s: what the server says of its caller is not its claims %s", m.Procedure, strings.Join(m.claims, ", "))
}

var errNoCaller = errors.New("its topics take claims of the caller, which aren't known: use For")

// unknownCaller reports whether there are no topics yet, for want of claims.
func (m *Method) unknownCaller() bool { return len(m.claims) > 0 && m.values == nil }

// valueOf returns the value of a claim; the method is known to have it.
func (m *Method) valueOf(claim string) string { return m.values[slices.Index(m.claims, claim)] }

// claims returns the distinct claims that a method's templates take, sorted.
func (d *methodDecl) claims() []string {
	var names []string
	for _, t := range d.templates {
		if t.parsed == nil {
			continue
		}
		for _, path := range t.parsed.fields {
			if name, ok := strings.CutPrefix(path, claimPrefix); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// namesItself reports whether a message has a field that claims would be taken for.
func namesItself(md protoreflect.MessageDescriptor) bool {
	fd := md.Fields().ByName("principal")
	return fd != nil && fd.Message() != nil
}
