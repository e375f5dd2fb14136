package auth

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Error is why a request was refused, in words for whoever sent it.
type Error struct {
	Code    connect.Code
	Reason  string // one of a few words, for metrics and programs
	Message string // fixed: it holds nothing of the token
	// OAuth is the error code of RFC 6750; empty if no token was sent.
	OAuth string
}

func (e *Error) Error() string { return e.Message }

// RefusalReason is Reason, for the one who counts: server/intercept.
func (e *Error) RefusalReason() string { return e.Reason }

func invalidToken(reason, message string) *Error {
	return &Error{Code: connect.CodeUnauthenticated, Reason: reason, Message: message, OAuth: "invalid_token"}
}

func invalidRequest(reason, message string) *Error {
	return &Error{Code: connect.CodeInvalidArgument, Reason: reason, Message: message, OAuth: "invalid_request"}
}

// All that may be wrong. Of a token that isn't known to be signed nothing is said
// but that.
var (
	errNone   = &Error{Code: connect.CodeUnauthenticated, Reason: "none", Message: "no token: send one as Authorization: Bearer"}
	errScheme = &Error{Code: connect.CodeUnauthenticated, Reason: "scheme", Message: "this scheme isn't known: send a token as Authorization: Bearer"}

	errTwo      = invalidRequest("two", "there is more than one token: send one, in one place")
	errHeader   = invalidRequest("header", "the Authorization header is malformed: want Bearer and one token")
	errCookie   = invalidRequest("cookie", "the cookie is empty: sign in again, or send none")
	errQuery    = invalidRequest("query", "a token in a URL ends in logs: send it as Authorization: Bearer")
	errTooLong  = invalidToken("long", "the token is longer than 16 KiB: have its issuer put less into it")
	errType     = invalidToken("type", "the token is of another type")
	errIssuer   = invalidToken("issuer", "the token's issuer isn't known")
	errKey      = invalidToken("key", "the token isn't signed by a key that is known")
	errExpired  = invalidToken("expired", "the token has expired")
	errEarly    = invalidToken("early", "the token isn't valid yet")
	errNoExpiry = invalidToken("no_expiry", "the token doesn't say when it expires")
	errAudience = invalidToken("audience", "the token is for somebody else")
	errSubject  = invalidToken("subject", "the token names no subject")

	errMalformed = invalidToken("malformed", "the token is malformed")

	errTooMany     = &Error{Code: connect.CodeResourceExhausted, Reason: "too_many_failures", Message: "too many tokens from your address were bad: come back in a moment"}
	errCrossOrigin = &Error{Code: connect.CodePermissionDenied, Reason: "cross_origin", Message: "another site made this request: by cookie only our own may"}
	errUnreachable = &Error{Code: connect.CodeUnavailable, Reason: "unreachable", Message: "the keys that the token is to be checked with can't be fetched right now"}
)

// retryDelay is what those are asked to wait whose token isn't checked.
const retryDelay = time.Second

// connect returns the error as handlers send it. Metadata becomes headers, in HTTP.
func (e *Error) connect() *connect.Error {
	err := connect.NewError(e.Code, e)
	switch {
	case e.Code == connect.CodeUnavailable, e.Code == connect.CodeResourceExhausted:
		err.Meta().Set("Retry-After", fmt.Sprint(int(retryDelay.Seconds())))
		if detail, derr := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)}); derr == nil {
			err.AddDetail(detail)
		}
	case e.OAuth != "":
		// Message has no quotes and no backslash, so it is a quoted-string as it is.
		err.Meta().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="freshet", error="%s", error_description="%s"`, e.OAuth, e.Message))
	case e.Code == connect.CodeUnauthenticated:
		err.Meta().Set("WWW-Authenticate", `Bearer realm="freshet"`)
	}
	return err
}
