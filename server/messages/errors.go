package messages

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-dev/freshet/store"
)

// errorDomain and the reasons are for programs (google.rpc.ErrorInfo).
const (
	errorDomain         = "messages.freshet.dev"
	reasonEtagMismatch  = "ETAG_MISMATCH"
	reasonRequestReused = "REQUEST_ID_REUSED"
)

// constraints names the field behind a constraint of the table. What validation
// has let through breaks none of them, so this is for callers without it.
var constraints = map[string]struct{ field, text string }{
	"messages_conversation_check": {"parent", "must be conversations/{conversation}"},
	"messages_author_check":       {"message.author", "must have 1 to 128 characters"},
	"messages_body_check":         {"message.body", "must have 1 to 16384 characters"},
}

// meaning makes coded errors of those that this service knows more about than
// the store. Others stay as they are.
func meaning(name string, err error) error {
	var constraint *store.ConstraintError
	switch {
	case errors.Is(err, store.ErrNotFound):
		return coded(connect.CodeNotFound, "there is no message "+name,
			&errdetails.ResourceInfo{ResourceType: "messages.v1.Message", ResourceName: name})
	case errors.As(err, &constraint):
		if c, ok := constraints[constraint.Constraint]; ok {
			return errField(c.field, c.text)
		}
	}
	return err
}

// errField is a bad value in a field of the request.
func errField(field, text string) error {
	return coded(connect.CodeInvalidArgument, field+": "+text, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}},
	})
}

func errToken() error {
	return errField("page_token", "is not one that this list has given out")
}

func errEtag() error {
	return coded(connect.CodeAborted, "etag: the message has changed since this version; read it again",
		&errdetails.ErrorInfo{Reason: reasonEtagMismatch, Domain: errorDomain})
}

func errRequestReused() error {
	return coded(connect.CodeAlreadyExists, "request_id: was used for a message with another author or body",
		&errdetails.ErrorInfo{Reason: reasonRequestReused, Domain: errorDomain})
}

func coded(code connect.Code, text string, detail proto.Message) error {
	err := connect.NewError(code, errors.New(text))
	if d, derr := connect.NewErrorDetail(detail); derr == nil { // fails for no message of ours
		err.AddDetail(d)
	}
	return err
}
