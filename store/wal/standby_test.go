package wal_test

import (
	"context"
	"errors"
	"sync"
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

// streamFrom makes a slot and streams from it, as a node of an earlier version does:
// it confirms nothing for a while.
func streamFrom(t *testing.T, url, slot string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgconn.Connect(ctx, testkit.WithParam(t, url, "replication", "database"))
	require.NoError(t, err)
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication})
	require.NoError(t, err)
	from, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(ctx, conn, slot, from, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names 'freshet'", "messages 'true'"},
	}))
	done := make(chan error, 1)
	go func() {
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = conn.Close(ctx)
		}()
		for {
			_, err := receiveWithin(ctx, conn, time.Second)
			if ctx.Err() != nil {
				done <- nil
				return
			}
			if err != nil && !pgconn.Timeout(err) {
				done <- err
				return
			}
			if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: from}); err != nil {
				done <- err
				return
			}
		}
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return stop
}
