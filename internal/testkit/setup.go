package testkit

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/store/setup"
)

// Program is the message service's contract.
var Program = sync.OnceValue(func() *contract.Program {
	p, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	if err != nil {
		panic(err)
	}
	return p
})

// SetUp migrates a database as Migrate does, and sets it up for capture of the message service, with
// the publication freshet.
func SetUp(ctx context.Context, url string) error {
	if err := Migrate(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = setup.Apply(ctx, conn, Program(), "freshet")
	return err
}

// Slot names a replication slot for the database of url: slots have one name space per server.
func Slot(t testing.TB, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return "slot_" + strings.ToLower(regexp.MustCompile(`[^a-zA-Z0-9]`).ReplaceAllString(config.Database, "_"))
}
