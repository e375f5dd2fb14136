package messages_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

func requireSame(t testing.TB, want, got *messagesv1.Message) {
	t.Helper()
	require.Empty(t, cmp.Diff(want, got, protocmp.Transform()))
}

func TestService_lifeOfAMessage(t *testing.T) {
	t.Parallel()
	f := serve(t)
	m := f.create("7", "hi")
	require.Regexp(t, `^conversations/7/messages/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, m.GetName())
	require.Equal(t, "ann", m.GetAuthor())
	require.Equal(t, "hi", m.GetBody())
	require.Equal(t, m.GetCreateTime().AsTime(), m.GetUpdateTime().AsTime())
	require.NotEmpty(t, m.GetEtag())

	got, err := f.get(m.GetName())
	require.NoError(t, err)
	requireSame(t, m, got)

	edited, err := f.update(&messagesv1.Message{Name: m.GetName(), Body: "ho", Etag: m.GetEtag(), Author: "bob"})
	require.NoError(t, err)
	require.Equal(t, "ho", edited.GetBody())
	require.Equal(t, "ann", edited.GetAuthor(), "immutable")
	require.NotEqual(t, m.GetEtag(), edited.GetEtag())
	require.True(t, edited.GetUpdateTime().AsTime().After(m.GetUpdateTime().AsTime()))
	require.Equal(t, m.GetCreateTime().AsTime(), edited.GetCreateTime().AsTime())

	require.NoError(t, f.delete(m.GetName(), edited.GetEtag()))
	_, err = f.get(m.GetName())
	require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
}

func TestService_notFound(t *testing.T) {
	t.Parallel()
	f := serve(t)
	m := f.create("7", "hi")
	gone := "conversations/7/messages/" + uuid.NewString()
	foreign := strings.Replace(m.GetName(), "conversations/7/", "conversations/8/", 1)
	for _, name := range []string{gone, foreign} {
		_, get := f.get(name)
		_, update := f.update(&messagesv1.Message{Name: name, Body: "x"})
		_, updateEtag := f.update(&messagesv1.Message{Name: name, Body: "x", Etag: m.GetEtag()})
		for _, err := range []error{get, update, updateEtag, f.delete(name, ""), f.delete(name, m.GetEtag())} {
			require.Equal(t, name, detail[*errdetails.ResourceInfo](t, connect.CodeNotFound, err).GetResourceName())
		}
	}
	got, err := f.get(m.GetName())
	require.NoError(t, err)
	requireSame(t, m, got)
}

// A version that has passed is aborted, whoever made the next one; without an
// etag a change is unconditional.
func TestService_etag(t *testing.T) {
	t.Parallel()
	f := serve(t)
	m := f.create("7", "hi")
	testkit.Exec(t, f.url, "update messages set body = 'by SQL'")
	for _, etag := range []string{m.GetEtag(), uuid.Nil.String(), "junk", strings.ToUpper(m.GetEtag())} {
		_, err := f.update(&messagesv1.Message{Name: m.GetName(), Body: "ho", Etag: etag})
		require.Equal(t, "ETAG_MISMATCH", detail[*errdetails.ErrorInfo](t, connect.CodeAborted, err).GetReason(), etag)
		err = f.delete(m.GetName(), etag)
		require.Equal(t, "ETAG_MISMATCH", detail[*errdetails.ErrorInfo](t, connect.CodeAborted, err).GetReason(), etag)
	}
	got, err := f.get(m.GetName())
	require.NoError(t, err)
	require.Equal(t, "by SQL", got.GetBody())
	_, err = f.update(&messagesv1.Message{Name: m.GetName(), Body: "ho"})
	require.NoError(t, err)
	require.NoError(t, f.delete(m.GetName(), ""))
}

// Of changes that are based on one version, one wins.
func TestService_etagRace(t *testing.T) {
	t.Parallel()
	f := serve(t)
	m := f.create("7", "hi")
	var racers sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		racers.Go(func() {
			_, errs[i] = f.update(&messagesv1.Message{Name: m.GetName(), Body: strconv.Itoa(i), Etag: m.GetEtag()})
		})
	}
	racers.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			require.Equal(t, connect.CodeAborted, connect.CodeOf(err), "%v", err)
		}
	}
	require.Equal(t, 1, won)
}

func (f *fixture) createWith(parent, requestID, author, body string) (*messagesv1.Message, error) {
	resp, err := f.client.CreateMessage(f.ctx(), connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: parent, RequestId: requestID, Message: &messagesv1.Message{Author: author, Body: body},
	}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetMessage(), nil
}

// A retry by request id returns the first call's message, also when it has been
// edited since; the same id with another content is refused.
func TestService_requestID(t *testing.T) {
	t.Parallel()
	f, id := serve(t), uuid.NewString()
	first, err := f.createWith("conversations/7", id, "ann", "hi")
	require.NoError(t, err)
	again, err := f.createWith("conversations/7", id, "ann", "hi")
	require.NoError(t, err)
	requireSame(t, first, again)

	for _, content := range [][2]string{{"ann", "ho"}, {"bob", "hi"}, {"an", "nhi"}} {
		_, err = f.createWith("conversations/7", id, content[0], content[1])
		require.Equal(t, "REQUEST_ID_REUSED", detail[*errdetails.ErrorInfo](t, connect.CodeAlreadyExists, err).GetReason())
	}
	other, err := f.createWith("conversations/8", id, "ann", "ho")
	require.NoError(t, err, "unique per conversation")
	require.NotEqual(t, first.GetName(), other.GetName())

	edited, err := f.update(&messagesv1.Message{Name: first.GetName(), Body: "edited"})
	require.NoError(t, err)
	again, err = f.createWith("conversations/7", id, "ann", "hi")
	require.NoError(t, err)
	requireSame(t, edited, again)
	_, err = f.createWith("conversations/7", id, "ann", "edited")
	require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err))

	require.NoError(t, f.delete(first.GetName(), ""))
	reborn, err := f.createWith("conversations/7", id, "ann", "hi")
	require.NoError(t, err, "remembered for as long as the message exists")
	require.NotEqual(t, first.GetName(), reborn.GetName())
}

func TestService_requestIDRace(t *testing.T) {
	t.Parallel()
	f, id := serve(t), uuid.NewString()
	var racers sync.WaitGroup
	names, errs := make([]string, 8), make([]error, 8)
	for i := range names {
		racers.Go(func() {
			m, err := f.createWith("conversations/7", id, "ann", "hi")
			names[i], errs[i] = m.GetName(), err
		})
	}
	racers.Wait()
	for i := range names {
		require.NoError(t, errs[i])
		require.Equal(t, names[0], names[i])
	}
}

func TestService_updateMask(t *testing.T) {
	t.Parallel()
	f := serve(t)
	m := f.create("7", "hi")
	for _, paths := range [][]string{{"body"}, {"*"}, {}} {
		_, err := f.client.UpdateMessage(f.ctx(), connect.NewRequest(&messagesv1.UpdateMessageRequest{
			Message: &messagesv1.Message{Name: m.GetName(), Body: "ho"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		}))
		require.NoError(t, err, paths)
	}
	for _, paths := range [][]string{{"author"}, {"body", "create_time"}} {
		_, err := f.client.UpdateMessage(f.ctx(), connect.NewRequest(&messagesv1.UpdateMessageRequest{
			Message: &messagesv1.Message{Name: m.GetName(), Body: "ho"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		}))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), paths)
	}
}
