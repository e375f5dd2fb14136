package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// imageFile writes what buf build makes of a folder of protos.
func imageFile(t *testing.T, protos string) string {
	t.Helper()
	sources, err := protoFiles(protos)
	require.NoError(t, err)
	files, err := new(adoptCmd).compile(t.Context(), sources)
	require.NoError(t, err)
	image, err := imageOf(files)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "image.binpb")
	require.NoError(t, os.WriteFile(path, image, 0o600))
	return path
}

// The database of somebody's own service is judged, and made ready, by that service's
// contract: nothing of the message service is asked for, made or granted there.
func TestImage_ofAServiceOfOnesOwn(t *testing.T) {
	t.Parallel()
	image := imageFile(t, "examples/notes/proto")
	database := testkit.Database(t)
	testkit.Exec(t, database, `create schema notes; create table notes.notes (board text, id bigint generated always as identity, body text, primary key (board, id))`)

	code, out, _ := runs(t, "doctor", "--database-url", database, "--image", image, "--publication", "own", "--slot", "own")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, `create publication "own"`)
	require.NotContains(t, out, "messages")

	code, out, said := runs(t, "migrate", "up", "--set-up", "--database-url", database, "--image", image, "--publication", "own")
	require.Zero(t, code, out+said)
	require.Contains(t, out, "The database is ready for the service.")
	require.Contains(t, out, "-- contract: notes.v1 from "+image+"\n")
	testkit.Exec(t, database, `do $$ begin
		assert to_regclass('messages') is null and to_regclass('messages_goose_db_version') is null;
		assert (select array_agg(tablename) from pg_publication_tables where pubname = 'own') = '{notes}';
	end $$`)

	code, out, _ = runs(t, "doctor", "--database-url", database, "--image", image, "--publication", "own", "--slot", "own")
	require.Zero(t, code, out)
	require.NotContains(t, out, "messages")
	// By the message service's contract the table would have to go.
	code, out, _ = runs(t, "doctor", "--database-url", database, "--publication", "own", "--slot", "own")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, `the table "public"."messages" doesn't exist`)
	require.True(t, strings.HasPrefix(out, "-- contract: messages.v1 (built in)\n-- warning: the publication \"own\" has tables, and none of this contract: \"notes\".\"notes\"; "), out)
	require.Contains(t, out, "--image")
	code, out, _ = runs(t, "migrate", "status", "--database-url", database, "--publication", "own")
	require.Zero(t, code)
	require.Contains(t, out, "-- warning: ")
	for _, changes := range [][]string{{"up"}, {"up", "--set-up"}, {"down", "--yes"}} {
		code, _, said = runs(t, append(append([]string{"migrate"}, changes...), "--database-url", database, "--publication", "own")...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, said, "name its protos with --image")
	}
	code, _, said = runs(t, "serve", "--addr", "127.0.0.1:0", "--admin-addr=", "--database-url", database, "--publication", "own", "--slot", "own")
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "a service of yours is a program of yours")
	testkit.Exec(t, database, `do $$ begin
		assert to_regclass('messages') is null and to_regclass('messages_goose_db_version') is null and to_regclass('freshet.incarnation') is not null;
		assert (select array_agg(tablename) from pg_publication_tables where pubname = 'own') = '{notes}';
	end $$`)

	code, out, _ = runs(t, "doctor", "--print-grants", "--database-url", database, "--image", image, "--publication", "own")
	require.Zero(t, code, out)
	require.Contains(t, out, `"notes"."notes"`)
	require.NotContains(t, out, "messages")

	code, out, _ = runs(t, "migrate", "status", "--database-url", database, "--image", image)
	require.Zero(t, code, out)
	require.Contains(t, out, "00001_freshet.sql")
	require.NotContains(t, out, "messages")
	require.NotContains(t, out, "pending")
	for _, name := range []string{"00004_incarnation_secret.sql", "00003_incarnation_database.sql", "00001_freshet.sql"} {
		code, out, said = runs(t, "migrate", "down", "--yes", "--database-url", database, "--image", image)
		require.Zero(t, code, out+said)
		require.Contains(t, out, name)
	}
	testkit.Exec(t, database, `do $$ begin
		assert to_regclass('freshet.incarnation') is null and to_regclass('messages_goose_db_version') is null;
		assert to_regclass('notes.notes') is not null;
	end $$`)
}

func TestImage_refuses(t *testing.T) {
	t.Parallel()
	none, err := imageOf([]protoreflect.FileDescriptor{})
	require.NoError(t, err)
	empty := filepath.Join(t.TempDir(), "empty.binpb")
	require.NoError(t, os.WriteFile(empty, none, 0o600))
	for _, command := range [][]string{{"doctor"}, {"migrate", "up"}, {"migrate", "down"}, {"migrate", "status"}} {
		for file, want := range map[string]string{empty: "it holds no files", "nowhere.binpb": "no such file", imageFile(t, bare(t, "examples/notes/proto")): "no service of the image has options"} {
			code, _, said := runs(t, append(command, "--database-url", "postgres://nowhere.invalid/x", "--image", file)...)
			require.Equal(t, exitFailed, code)
			require.Contains(t, said, want)
		}
	}
}
