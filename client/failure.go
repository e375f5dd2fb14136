package client

import (
	"errors"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/internal/rule"
)

// Reasons of a google.rpc.ErrorInfo in domain freshet.dev.
const (
	errorDomain          = "freshet.dev"
	reasonEpochChanged   = "EPOCH_CHANGED"
	reasonAtLeastUnknown = "AT_LEAST_UNKNOWN"
	reasonTopicSpelling  = "TOPIC_SPELLING"
)

// failure is what the error of a call is for the client rule.
type failure struct {
	in       rule.Input
	answered bool // it says how things are, as data would, and as of when
	final    bool // the same call would be refused again, as its stream would be
}

func failureOf(err error) failure {
	f := failure{in: rule.Input{Kind: rule.OnFailure}}
	cerr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return f
	}
	in := &f.in
	in.Wait = retryAfter(cerr.Meta(), time.Now())
	f.final = cerr.Code() == connect.CodePermissionDenied
	for _, d := range cerr.Details() {
		message, err := d.Value()
		if err != nil {
			continue
		}
		switch m := message.(type) {
		case *errdetails.RetryInfo:
			in.Wait = m.GetRetryDelay().AsDuration()
		case *errdetails.ErrorInfo:
			switch {
			case m.GetDomain() != errorDomain:
			case m.GetReason() == reasonEpochChanged:
				in.EpochChanged = true
				in.Revision = currentOf(m.GetMetadata())
			case m.GetReason() == reasonAtLeastUnknown:
				in.Unknown = true
			case m.GetReason() == reasonTopicSpelling:
				f.final = true
			}
		}
	}
	in.Wait = min(max(0, in.Wait), longestWish)
	stamp := stampOf(cerr.Meta())
	if !isAnswer(cerr.Code()) || stamp.Revision.IsZero() || in.EpochChanged || in.Unknown {
		return f
	}
	return failure{in: rule.Input{Kind: rule.OnAnswer, Revision: stamp.Revision}, answered: true}
}

// isAnswer reports whether an error of this code says something about what is
// stored. Without a stamp it is none all the same: no handler looked. Every
// other code is about the request, the caller or the server, and nothing of it
// may take the place of data, whatever stamp a server gives it (F87).
func isAnswer(code connect.Code) bool {
	switch code {
	case connect.CodeNotFound, connect.CodeAlreadyExists, connect.CodePermissionDenied,
		connect.CodeFailedPrecondition, connect.CodeAborted, connect.CodeOutOfRange:
		return true
	default:
		return false
	}
}

// currentOf reads the history that an EPOCH_CHANGED names; zero: it doesn't.
func currentOf(metadata map[string]string) freshet.Revision {
	if rev, err := freshet.ParseRevision(metadata["revision"]); err == nil {
		return rev
	}
	epoch, err := strconv.ParseUint(metadata["epoch"], 16, 32)
	if err != nil {
		return freshet.Revision{}
	}
	return freshet.Revision{Epoch: freshet.Epoch(epoch)}
}
