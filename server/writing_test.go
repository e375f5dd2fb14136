package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/store"
)

// viewed counts who looks, if statement says so.
type viewed struct {
	messagesv1connect.UnimplementedMessageServiceHandler
	db        *store.DB
	statement string
}

func (v *viewed) ListMessages(ctx context.Context, _ *connect.Request[messagesv1.ListMessagesRequest]) (*connect.Response[messagesv1.ListMessagesResponse], error) {
	err := v.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, v.statement)
		return err
	})
	return connect.NewResponse(new(messagesv1.ListMessagesResponse)), err
}

// A write that the database takes from nobody is to be sent again: neither the caller nor
// the program is at fault. The log says what refuses it.
func TestWrites_readOnly(t *testing.T) {
	database, log := testkit.Migrated(t), new(testkit.Buffer)
	r := start(t, database, func(c *live.Config) {
		c.CaptureURL, c.Logger = database, log.Logger()
		c.DatabaseURL = testkit.WithParam(t, database, "options", "-cdefault_transaction_read_only=on")
	})
	_, err := r.client().CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Author: "ann", Body: "hi"},
	}))
	requireCode(t, connect.CodeUnavailable, err)
	require.ErrorContains(t, err, "takes no changes right now")
	require.NotContains(t, err.Error(), "default_transaction_read_only")
	require.Contains(t, log.String(), "the database refuses writes: default_transaction_read_only is on")
	_, err = r.client().ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
	require.NoError(t, err)
}

// A null that a column refuses is the program's own, as a rule: the log names the column,
// which the caller isn't told.
func TestWrites_null(t *testing.T) {
	database, log := testkit.Migrated(t), new(testkit.Buffer)
	r := start(t, database, func(c *live.Config) { c.Logger = log.Logger() })
	testkit.Exec(t, database, `alter table messages alter column id drop default`)
	_, err := r.client().CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/7", Message: &messagesv1.Message{Author: "ann", Body: "hi"},
	}))
	requireCode(t, connect.CodeInvalidArgument, err)
	require.EqualError(t, err, "invalid_argument: a value can't be stored")
	require.Regexp(t, `level=WARN msg="a write left a column null .* procedure=/messages.v1.MessageService/CreateMessage .* table=messages column=id`, log.String())
}

// A method that is declared as a read, and writes, has its followers ask for ever: the
// log says so, once, and not of a transaction that has only read.
func TestReads_thatWrite(t *testing.T) {
	log, v := new(testkit.Buffer), new(viewed)
	r := start(t, testkit.Migrated(t), func(c *live.Config) {
		c.Logger = log.Logger()
		c.Handler = func(node *server.Node) (string, http.Handler) {
			v.db = node.DB()
			return messagesv1connect.NewMessageServiceHandler(v, node.HandlerOptions()...)
		}
	})
	for _, tt := range []struct {
		statement string
		warnings  int
	}{
		{"select from messages", 0},
		{"insert into messages (conversation, author, body) values ('7', 'a', 'seen')", 1},
	} {
		v.statement = tt.statement
		for range 3 {
			_, err := r.client().ListMessages(r.ctx, connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/7"}))
			require.NoError(t, err)
		}
		require.Equal(t, tt.warnings, strings.Count(log.String(), "a read has written"), log.String())
	}
}
