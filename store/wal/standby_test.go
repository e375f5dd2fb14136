package wal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// receiver is receiveWAL's application_name, and its slot.
const receiver = "receiver"

// receiveWAL is a physical standby that keeps nothing and confirms everything at
// once, as `pg_receivewal --synchronous` does.
func receiveWAL(t *testing.T, url string) (stop func()) {
	t.Helper()
	url = testkit.WithParam(t, testkit.WithParam(t, url, "replication", "true"), "application_name", receiver)
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgconn.Connect(ctx, url)
	require.NoError(t, err)
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	require.NoError(t, err)
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, receiver, "", pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.PhysicalReplication})
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(ctx, conn, receiver, system.XLogPos,
		pglogrepl.StartReplicationOptions{Timeline: system.Timeline, Mode: pglogrepl.PhysicalReplication}))
	done := make(chan error, 1)
	go func() { done <- confirm(ctx, conn, system.XLogPos) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("receive WAL: %v", err)
		}
	}
	t.Cleanup(stop)
	look := testkit.Conn(t, testkit.WithParam(t, url, "replication", "false"))
	require.Eventually(t, func() bool {
		var n int
		err := look.QueryRow(testkit.Context(t), `select count(*) from pg_stat_replication where application_name = $1 and state = 'streaming'`, receiver).Scan(&n)
		return err == nil && n == 1
	}, 10*time.Second, 10*time.Millisecond)
	return stop
}

// confirm confirms what comes until ctx ends; it closes the connection.
func confirm(ctx context.Context, conn *pgconn.PgConn, position pglogrepl.LSN) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone
	}()
	for {
		msg, err := receiveWithin(ctx, conn, time.Second)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err): // who becomes the synchronous standby only now is asked for an answer by nobody
		case err != nil:
			return err
		}
		if data, ok := msg.(*pgproto3.CopyData); ok && data.Data[0] == pglogrepl.XLogDataByteID {
			wal, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return err
			}
			position = wal.WALStart + pglogrepl.LSN(len(wal.WALData))
		}
		if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: position}); err != nil {
			return err
		}
	}
}

func receiveWithin(ctx context.Context, conn *pgconn.PgConn, d time.Duration) (pgproto3.BackendMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return conn.ReceiveMessage(ctx)
}
