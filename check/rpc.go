package check

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// list sends a read and fills in its answer.
func list(ctx context.Context, messages messagesv1connect.MessageServiceClient, read *Read) error {
	var stamp client.Stamp
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	ctx = client.CaptureStamp(client.AtLeast(client.Strong(ctx), read.AtLeast), &stamp)
	resp, err := messages.ListMessages(ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{
		Parent: "conversations/" + read.Conversation, PageSize: 1000,
	}))
	if err != nil {
		read.Failed = true
		return err
	}
	read.Stamp = stamp.Revision
	for _, m := range resp.Msg.GetMessages() {
		cell, err := ParseCell(m.GetBody())
		if err != nil {
			continue // somebody else's
		}
		read.Cells = append(read.Cells, cell)
	}
	slices.SortFunc(read.Cells, compareCells)
	return nil
}

// failure reads what an error says to clients.
func failure(err error) client.Input {
	in := client.Input{Kind: client.OnFailure}
	cerr, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return in
	}
	for _, d := range cerr.Details() {
		message, err := d.Value()
		if err != nil {
			continue
		}
		switch m := message.(type) {
		case *errdetails.RetryInfo:
			in.Wait = min(max(0, m.GetRetryDelay().AsDuration()), time.Minute)
		case *errdetails.ErrorInfo:
			switch m.GetReason() {
			case "EPOCH_CHANGED":
				in.EpochChanged = true
				epoch, _ := strconv.ParseUint(m.GetMetadata()["epoch"], 16, 32) // zero: not named
				in.Revision.Epoch = freshet.Epoch(epoch)
			case "AT_LEAST_UNKNOWN":
				in.Unknown = true
			}
		}
	}
	return in
}
