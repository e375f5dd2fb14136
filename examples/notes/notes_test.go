package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	notesv1 "example.com/notes/gen/notes/v1"
	"example.com/notes/gen/notes/v1/notesv1connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	"github.com/freshet-dev/freshet/store/pgembed"
)

// Sixty notes that are written by SQL, past the service, are told and fetched
// again one by one; and Freshet has made nothing beside what is the team's own.
func TestNotes_writtenBySQL(t *testing.T) {
	ctx, url, db := running(t)
	stream, err := client.New(url)
	require.NoError(t, err)
	service, done := caller(url)
	defer done()
	list, err := client.NewQuery(stream, service.ListNotes, &notesv1.ListNotesRequest{Board: "kitchen"})
	require.NoError(t, err)
	require.Equal(t, []string{"boards/kitchen/notes"}, list.Topics())

	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	following.Go(func() { _ = list.Run(ctx) }) // it ends with ctx

	const writes = 60
	fetched := 0
	for s := range list.Changes(ctx) {
		if !s.Fresh {
			continue
		}
		require.Len(t, s.Value.GetNotes(), fetched, "an answer that nobody had reason to fetch")
		if fetched == writes {
			break
		}
		fetched++
		_, err := db.ExecContext(ctx, `insert into notes.notes (board, body) values ('kitchen', $1), ('elsewhere', '')`, fmt.Sprint("note ", fetched))
		require.NoError(t, err)
	}
	require.Equal(t, writes, fetched)

	var ours int
	require.NoError(t, db.QueryRowContext(ctx, `select count(*) from pg_class where relnamespace = 'public'::regnamespace`).Scan(&ours))
	require.Zero(t, ours, "in the schema public")
}

// Six writers read each of 900 writes back, at-least its stamp, beside readers who
// share their queries and answers.
func TestNotes_ownWritesAreReadBack(t *testing.T) {
	ctx, url, _ := running(t)
	boards := []string{"kitchen", "garden", "attic"}
	const writers, writes = 6, 150

	var missing, reads atomic.Int64
	reading, stop := context.WithCancel(ctx)
	var readers, all errgroup.Group
	for _, board := range boards {
		readers.Go(func() error {
			service, done := caller(url)
			defer done()
			var seen freshet.Revision
			for held := 0; reading.Err() == nil; reads.Add(1) {
				notes, stamp, err := list(reading, service, board, seen)
				switch {
				case reading.Err() != nil:
					return nil
				case err != nil:
					return err
				case len(notes) < held:
					return fmt.Errorf("%s had %d notes, and has %d", board, held, len(notes))
				}
				held, seen = len(notes), stamp
			}
			return nil
		})
	}
	for w := range writers {
		all.Go(func() error {
			service, done := caller(url)
			defer done()
			board := boards[w%len(boards)]
			for range writes {
				var stamp client.Stamp
				added, err := service.AddNote(client.CaptureStamp(ctx, &stamp), connect.NewRequest(&notesv1.AddNoteRequest{Board: board, Text: "mine"}))
				if err != nil {
					return err
				}
				if stamp.Revision.IsZero() {
					return errors.New("a write's answer has no stamp")
				}
				notes, _, err := list(ctx, service, board, stamp.Revision)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(notes, func(n *notesv1.Note) bool { return n.GetId() == added.Msg.GetNote().GetId() }) {
					missing.Add(1)
				}
			}
			return nil
		})
	}
	err := all.Wait()
	stop()
	require.NoError(t, errors.Join(err, readers.Wait()))
	require.Zero(t, missing.Load(), "of %d writes weren't in the read that followed", writers*writes)
	require.Greater(t, reads.Load(), int64(100), "the readers were not beside")
}

// list returns a board's notes at-least rev, and their stamp.
func list(ctx context.Context, service notesv1connect.NoteServiceClient, board string, rev freshet.Revision) ([]*notesv1.Note, freshet.Revision, error) {
	var stamp client.Stamp
	answer, err := service.ListNotes(client.CaptureStamp(client.AtLeast(ctx, rev), &stamp), connect.NewRequest(&notesv1.ListNotesRequest{Board: board}))
	if err != nil {
		return nil, stamp.Revision, err
	}
	return answer.Msg.GetNotes(), stamp.Revision, nil
}

// caller returns a client of the service on a connection of its own.
func caller(url string) (_ notesv1connect.NoteServiceClient, done func()) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return notesv1connect.NewNoteServiceClient(&http.Client{Transport: transport}, url, connect.WithInterceptors(client.NewInterceptor())), transport.CloseIdleConnections
}

// running returns the URL of the service, on a Postgres of the test's own, once it
// is ready. Both end with the test.
func running(t *testing.T) (_ context.Context, url string, _ *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	postgres := database(t, ctx)
	db, err := sql.Open("pgx", postgres)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(serving, postgres, listener) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	url = "http://" + listener.Addr().String()
	stream, err := client.New(url)
	require.NoError(t, err)
	isReady := errors.New("ready")
	require.ErrorIs(t, stream.Stream(ctx, []string{"boards/kitchen/notes"}, func(e client.Event) error {
		if _, ok := e.(client.Ready); ok {
			return isReady
		}
		return nil
	}), isReady)
	return ctx, url, db
}

// database starts a Postgres, and returns its URL.
func database(t *testing.T, ctx context.Context) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "notes") // not t.TempDir: a Unix socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // root's Postgres is another user's, who passes through
	postgres, err := pgembed.Start(ctx, pgembed.Config{
		DataDir: filepath.Join(dir, "data"),
		RootDir: filepath.Join(dir, "root"),
		NPMDir:  filepath.Join("..", "..", "web", "node_modules"),
		Logger:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		stopping, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, postgres.Stop(stopping))
	})
	return postgres.URL("")
}
