package intercept

import (
	"context"
	"errors"
	"fmt"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store"
)

// ErrorDomain is the domain of our ErrorInfo details.
const ErrorDomain = "freshet.dev"

// ReasonEpochChanged is the ErrorInfo reason of a request whose revisions
// belong to a history that has ended: drop them and retry without.
const ReasonEpochChanged = "EPOCH_CHANGED"

// ReasonAtLeastUnknown is the ErrorInfo reason of a request refused for its
// Freshet-At-Least, which is no revision or none that this server has given:
// drop it and retry without.
const ReasonAtLeastUnknown = "AT_LEAST_UNKNOWN"

// ReasonTopicSpelling is the ErrorInfo reason of a request that says a value otherwise
// than Postgres writes it, so that it depends on topics which no row can have. It is
// the request's fault: another spelling is to be asked for.
const ReasonTopicSpelling = "TOPIC_SPELLING"

// retryDelay is what unavailable answers ask clients to wait.
const retryDelay = 100 * time.Millisecond

var errInternal = errors.New("internal error")

// translate is the one table from errors to codes. A *connect.Error passes as
// its author meant it, but for internal and unknown ones; what the table does
// not name is internal, and its text stays here.
//
// The result is always a fresh value, so that setting headers on it is safe
// also when one error answers several calls.
func translate(ctx context.Context, err error) *connect.Error {
	var cerr *connect.Error
	var epoch *hub.EpochError
	var audit *AuditError
	var constraint *store.ConstraintError
	switch {
	case connect.IsNotModifiedError(err) && errors.As(err, &cerr):
		return cerr // connect makes a fresh one for each call
	case errors.As(err, &audit):
		return connect.NewError(connect.CodeInternal, audit)
	case errors.As(err, &cerr):
		return public(cerr)
	case errors.As(err, &epoch):
		return epochChanged(freshet.Revision{Epoch: epoch.Current})
	case errors.Is(err, store.ErrCommitUnknown):
		return commitUnknown(ctx)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the request's deadline has passed"))
	case ctx.Err() != nil:
		return connect.NewError(connect.CodeCanceled, errors.New("the caller has gone away"))
	case errors.Is(err, store.ErrEpoch):
		return unavailable("the database has begun another history, and this node is catching up")
	case errors.Is(err, hub.ErrNotServing):
		return unavailable("this node is not caught up with the database")
	case errors.Is(err, store.ErrConflict):
		return unavailable("the change lost to concurrent ones, and nothing of it was done")
	case errors.Is(err, store.ErrBusy):
		return unavailable("what the call needs has been in use by others for too long, and nothing was done")
	case errors.Is(err, store.ErrReadOnly):
		return unavailable("the database takes no changes right now, and nothing was done: try again later")
	case errors.Is(err, store.ErrNoEpoch):
		return unavailable("no node has followed the database since it started: reads and writes wait for one that can")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return unavailable("the database can't be asked right now")
	case errors.Is(err, store.ErrDenied):
		return denied()
	case errors.Is(err, store.ErrNotFound):
		return connect.NewError(connect.CodeNotFound, errors.New("not found"))
	case errors.As(err, &constraint):
		return constraintBroken(constraint.Kind)
	}
	return connect.NewError(connect.CodeInternal, errInternal)
}

// isAboutData reports whether the answer to a call says something about what is
// stored, so that it can be kept, and be stamped with how new that is: a success
// does, and so do the errors that a handler found out by looking. All others
// are about the request, the caller or the server: "unavailable, as of this
// revision" would be kept as data by a client that takes the stamp's word.
func isAboutData(ctx context.Context, err error) bool {
	return err == nil || codeIsAboutData(translate(ctx, err))
}

func codeIsAboutData(err *connect.Error) bool {
	if connect.IsNotModifiedError(err) {
		return true
	}
	switch err.Code() {
	case connect.CodePermissionDenied:
		return !errors.Is(err, grants.ErrDenied) // that is ours, of grants or roles
	case connect.CodeNotFound, connect.CodeAlreadyExists,
		connect.CodeFailedPrecondition, connect.CodeAborted, connect.CodeOutOfRange:
		return true
	}
	return false
}

// commitUnknown never says that the change was not made: its COMMIT was sent.
func commitUnknown(ctx context.Context) *connect.Error {
	code, why := connect.CodeUnknown, "the answer to the commit was lost"
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		code, why = connect.CodeDeadlineExceeded, "the request's deadline has passed during the commit"
	case ctx.Err() != nil:
		code, why = connect.CodeCanceled, "the caller has gone away during the commit"
	}
	return connect.NewError(code, errors.New(why+": the change may or may not be there; read before trying again"))
}

// constraintBroken is for constraints that a handler has not given a meaning.
// Their names, and the values, stay here.
func constraintBroken(kind store.ConstraintKind) *connect.Error {
	switch kind {
	case store.Unique, store.Exclusion:
		return connect.NewError(connect.CodeAlreadyExists, errors.New("the change conflicts with what is stored"))
	case store.ForeignKey:
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the change needs something that is not stored"))
	}
	return connect.NewError(connect.CodeInvalidArgument, errors.New("a value can't be stored"))
}

// public copies a coded error; of an internal or unknown one, only its code.
func public(err *connect.Error) *connect.Error {
	switch err.Code() {
	case connect.CodeInternal, connect.CodeUnknown:
		return connect.NewError(connect.CodeInternal, errInternal)
	}
	// A rule that can't be compiled or run is our fault, not the caller's,
	// whatever code the validating interceptor gave it.
	var compilation *protovalidate.CompilationError
	var run *protovalidate.RuntimeError
	if errors.As(err, &compilation) || errors.As(err, &run) {
		return connect.NewError(connect.CodeInternal, errInternal)
	}
	out := connect.NewError(err.Code(), errors.New(err.Message()))
	for _, detail := range err.Details() {
		out.AddDetail(detail)
	}
	for key, values := range err.Meta() {
		out.Meta()[key] = append([]string(nil), values...)
	}
	return out
}

// unavailable asks the client to come back soon.
func unavailable(text string) *connect.Error {
	err := connect.NewError(connect.CodeUnavailable, errors.New(text))
	addDetail(err, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})
	return err
}

// epochChanged says which history the node is in; the frontier too, if current
// has a position.
func epochChanged(current freshet.Revision) *connect.Error {
	err := connect.NewError(connect.CodeFailedPrecondition, errors.New(
		"the revision belongs to a history of the database that has ended: drop it and read again without"))
	metadata := map[string]string{"epoch": fmt.Sprintf("%08x", uint32(current.Epoch))}
	if current.Position != 0 {
		metadata["revision"] = current.String()
	}
	addDetail(err, &errdetails.ErrorInfo{Reason: ReasonEpochChanged, Domain: ErrorDomain, Metadata: metadata})
	return err
}

// atLeastUnknown refuses a request for its Freshet-At-Least.
func atLeastUnknown(reason error) error {
	err := connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s: %w", HeaderAtLeast, reason))
	addDetail(err, &errdetails.ErrorInfo{Reason: ReasonAtLeastUnknown, Domain: ErrorDomain})
	return err
}

// TopicSpelling refuses what asks for topics that no row can have.
func TopicSpelling(reason error) *connect.Error {
	err := connect.NewError(connect.CodeInvalidArgument, reason)
	addDetail(err, &errdetails.ErrorInfo{Reason: ReasonTopicSpelling, Domain: ErrorDomain})
	return err
}

func addDetail(err *connect.Error, message proto.Message) {
	// A detail fails only for a message that can't be marshaled; ours can.
	if detail, derr := connect.NewErrorDetail(message); derr == nil {
		err.AddDetail(detail)
	}
}
