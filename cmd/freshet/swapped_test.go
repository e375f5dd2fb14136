package main

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
)

// A table that was swapped by a rename (gh-ost, blue-green) leaves the publication with the
// old one alone, which looks like the database of somebody else's service. Nodes start
// all the same, and tell of it.
func TestServe_swappedTable(t *testing.T) {
	t.Parallel()
	database := testkit.Migrated(t)
	args := []string{"--database-url=" + database, "--publication=swapped", "--slot=swapped"}
	p := startProgram(t, args...)
	require.Eventually(t, func() bool { return p.log.Contains("a source is out of quarantine") }, time.Minute, 10*time.Millisecond, "it was followed")
	testkit.Exec(t, database, `begin;
		alter table messages rename to messages_old;
		create table messages (like messages_old including all);
		insert into messages select * from messages_old;
		commit`)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	<-p.done

	again := startProgram(t, args...)
	status, _ := again.status(t, "/readyz")
	require.Equal(t, http.StatusOK, status)
	testkit.Exec(t, database, `do $$ begin
		assert (select array_agg(tablename order by tablename) from pg_publication_tables where pubname = 'swapped') = '{messages,messages_old}';
	end $$`)
}
