package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/messages"
	"github.com/freshet-dev/freshet/store/setup"
)

// ours is what a contract adds to a proto file.
var ours = regexp.MustCompile(`(?s)\n *option (\(freshet\.v1\.\w+\) = \{.*?\n? *\}|idempotency_level = NO_SIDE_EFFECTS);|\nimport "freshet/v1/options.proto";`)

// bare copies a folder of protos without their contract, and returns the copy.
func bare(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".proto" || entry.Name() == "options.proto" || entry.Name() == "invalidation_service.proto" {
			return err
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		name, err := filepath.Rel(from, path)
		require.NoError(t, err)
		to := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		stripped := regexp.MustCompile(`\) \{\s*\}`).ReplaceAllString(ours.ReplaceAllString(string(text), ""), ");")
		require.NotContains(t, stripped, "freshet.v1.")
		return os.WriteFile(to, []byte(stripped), 0o600)
	}))
	return dir
}

// adopts runs the program on one file of protos, and returns that, and what there is of it.
func adopts(t *testing.T, database, text string, flags ...string) (file string, code int, out, said string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "shop.proto")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	code, out, said = runs(t, append([]string{"adopt", filepath.Dir(file), "--database-url", database}, flags...)...)
	return file, code, out, said
}

// Services whose contracts somebody has written by hand get the same ones, but for
// what only their authors know.
func TestAdopt(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	require.NoError(t, setup.Migrate(testkit.Context(t), database))
	require.NoError(t, messages.Migrate(testkit.Context(t), database))
	testkit.Exec(t, database, `create schema notes; create table notes.notes (board text, id bigint generated always as identity, body text, primary key (board, id))`)
	for _, tt := range []struct {
		from, file string
		code       int
		same       []string // options, as the original has them
		said       string
		again      string // when it has been written
	}{
		{"examples/notes/proto", "notes/v1/note_service.proto", exitOK, []string{`table: "notes.notes"`, `topics: "boards/{board}/notes"`}, "1 file is changed", "There is nothing to propose: 2 methods are declared already."},
		{"proto", "messages/v1/messages_service.proto", exitFailed, []string{`topics: "{parent=**}/messages"`, `topics: "{name=**}"`, `topics: "{message.name=**}"`}, "1 method is yours to decide", "There is nothing to propose for what is left; 5 methods are declared already."},
		{"proto", "messages/v1/messages.proto", exitFailed, []string{`topics: "conversations/{conversation}/messages"`, `topics: "conversations/{conversation}/messages/{id}"`}, "No message is a row of these tables: ", "messages.v1.MessageService.ListConversations"},
	} {
		dir := bare(t, tt.from)
		file := filepath.Join(dir, tt.file)
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		code, out, said := runs(t, "adopt", dir, "--database-url", database)
		require.Equal(t, tt.code, code, out+said)
		require.Contains(t, out, "Nothing was written")
		untouched, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(before), string(untouched))

		code, out, said = runs(t, "adopt", dir, "--database-url", database, "--write")
		require.Equal(t, tt.code, code, out+said)
		require.Contains(t, out, tt.said)
		original, err := os.ReadFile(filepath.Join(tt.from, tt.file))
		require.NoError(t, err)
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, option := range tt.same {
			require.Contains(t, string(original), option)
			require.Equal(t, strings.Count(string(original), option), strings.Count(string(after), option), "%s in %s", option, after)
		}
		code, out, _ = runs(t, "adopt", dir, "--database-url", database)
		require.Equal(t, tt.code, code)
		require.Contains(t, out, tt.again)
	}
}

func TestAdopt_refuses(t *testing.T) {
	code, _, said := runs(t, "adopt", t.TempDir(), "--database-url", "postgres://nowhere.invalid/x")
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "holds no .proto files")
	_, code, _, said = adopts(t, "postgres://nowhere.invalid/x", "syntax =")
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "shop.proto:1:9")
	_, code, _, said = adopts(t, "postgres://nowhere.invalid/x", `syntax = "proto3";`)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "has a service")
}

// What only the catalog knows: names in quotes, an enum's, columns that may be NULL or that
// the database fills, and materialized views.
func TestAdopt_catalog(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	testkit.Exec(t, database, `
		create schema "Stock";
		create type sheet_state as enum ('open', 'counted');
		create domain short_code as text not null;
		create table "Stock"."Count Sheets" (
			id bigint generated always as identity primary key, "Shelf Id" text not null, code short_code, aisle text,
			state sheet_state not null, label text generated always as (upper("Shelf Id")) stored);
		create table counters (id bigserial primary key, name text);
		create table rooms (id uuid primary key default gen_random_uuid(), name text not null default '');
		create table "labResults" ("resultId" bigint primary key, "roomId" uuid not null references rooms);
		create materialized view shelf_loads as select "Shelf Id" as shelf, count(*) as sheets from "Stock"."Count Sheets" group by 1`)
	file, code, out, said := adopts(t, database, `syntax = "proto3";

package stock.v1;

import "freshet/v1/options.proto";

message LabResult {
  option (freshet.v1.source) = {table: "labResults" topics: "labResults/{resultId}" topics: "rooms/{roomId}/labResults"};
  int64 result_id = 1;
  string room_id = 2;
}
message CountSheet {
  int64 id = 1;
  string code = 2;
}
message Counter {
  int64 id = 1;
}
message Room {
  string id = 1;
  string name = 2;
}
message ShelfLoad {
  string shelf = 1;
}
message ListShelfLoadsResponse {
  repeated ShelfLoad loads = 1;
}
message ListCountSheetsRequest {
  string shelf_id = 1;
  string state = 2;
  string label = 3;
}
message ListCountSheetsResponse {
  repeated CountSheet sheets = 1;
}
message ListCodesRequest {
  string code = 1;
}
message ListAislesRequest {
  string aisle = 1;
}

service StockService {
  rpc ListCountSheets(ListCountSheetsRequest) returns (ListCountSheetsResponse);
  rpc ListCodes(ListCodesRequest) returns (ListCountSheetsResponse);
  rpc ListAisles(ListAislesRequest) returns (ListCountSheetsResponse);
  rpc CreateCountSheet(CountSheet) returns (CountSheet);
  rpc GetLabResult(LabResult) returns (LabResult);
  rpc CreateCounter(Counter) returns (Counter);
  rpc CreateRoom(Room) returns (Room);
  rpc ListShelfLoads(ListCodesRequest) returns (ListShelfLoadsResponse);
}
`, "--write")
	require.Equal(t, exitOK, code, out+said)
	require.Contains(t, out, `table: "Stock.Count Sheets"`)
	require.Contains(t, out, `! shelf_id: no template can name column "Shelf Id" of Stock.Count Sheets`)
	require.Contains(t, out, `(freshet.v1.reads) = {topics: "states/{state}/count_sheets"}`, "an enum's text is its label")
	require.Contains(t, out, "! label: column label of Stock.Count Sheets is generated")
	require.Contains(t, out, `(freshet.v1.reads) = {topics: "codes/{code}/count_sheets"}`)
	require.Contains(t, out, `(freshet.v1.reads) = {topics: "labResults/{result_id}"}`, "as the source has it")
	require.Contains(t, out, `! aisle may be NULL, and a row in which it is tells nothing on "aisles/{aisle}/count_sheets"`)
	require.Equal(t, 1, strings.Count(out, "may be NULL, and"), "the domain of code is not null: %s", out)
	require.Contains(t, out, "! code may be empty, for all that the proto says")
	require.Contains(t, out, "the database makes column id of Stock.Count Sheets (identity)")
	require.Contains(t, out, "the database makes column id of counters (serial)")
	require.Contains(t, out, "the database makes column id of rooms (default)")
	require.NotContains(t, out, "column name of rooms", "a default isn't what everybody takes, but of a key")
	require.Contains(t, out, "! shelf_loads is a materialized view")
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(written), "topics: \"shelf_loads\"\n    told: true\n")
}

// A table that capture can't follow is proposed for nothing, and is named with why: doctor
// would refuse a contract that has it. One whose topics the team tells may be any.
func TestAdopt_leavesOutWhatDoctorRefuses(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	testkit.Exec(t, database, `
		create unlogged table sessions (id bigint primary key);
		create schema import;
		create unlogged table import.orders (id bigint primary key);
		create unlogged table presences (id bigint primary key);
		create table logs (id bigint primary key);
		create table old_logs () inherits (logs);
		create table older_logs () inherits (old_logs);
		create table visits (id bigint primary key) partition by range (id);
		create unlogged table new_visits partition of visits default;
		create extension file_fdw;
		create server files foreign data wrapper file_fdw;
		create table imports (id bigint) partition by range (id);
		create foreign table old_imports partition of imports default server files options (filename '/dev/null');
		create table orders (id bigint primary key) partition by range (id);
		create table new_orders partition of orders default`)
	_, code, out, said := adopts(t, database, `syntax = "proto3";

package shop.v1;

import "freshet/v1/options.proto";

message Session { int64 id = 1; }
message Presence {
  option (freshet.v1.source) = {table: "presences" topics: "presences/{id}" told: true};
  int64 id = 1;
}
message Log {
  option (freshet.v1.source) = {table: "logs" topics: "logs/{id}"};
  int64 id = 1;
}
message OldLog { int64 id = 1; }
message OlderLog { int64 id = 1; }
message Visit { int64 id = 1; }
message Order { int64 id = 1; }
message Q { int64 id = 1; }
message ListSessionsResponse { repeated Session sessions = 1; }
message ListOldLogsResponse { repeated OldLog logs = 1; }
message ListVisitsResponse { repeated Visit visits = 1; }

service ShopService {
  rpc ListSessions(Q) returns (ListSessionsResponse);
  rpc GetPresence(Q) returns (Presence);
  rpc GetLog(Q) returns (Log);
  rpc ListOldLogs(Q) returns (ListOldLogsResponse);
  rpc GetOlderLog(Q) returns (OlderLog);
  rpc ListVisits(Q) returns (ListVisitsResponse);
  rpc GetOrder(Q) returns (Order);
}
`)
	require.Equal(t, exitFailed, code, out+said)
	require.Contains(t, out, "4 methods are yours to decide")
	for table, proposed := range map[string]bool{"sessions": false, "presences": false, "logs": false, "old_logs": false, "older_logs": true, "visits": false, "orders": true} {
		require.Equal(t, proposed, strings.Contains(out, `  table: "`+table+`"`), "%s: %s", table, out)
	}
	require.Contains(t, out, "shop.v1.Session\n  - Session is named like table sessions, and has 1 of its 1 columns: id\n  ! no source can have table sessions: it is unlogged, so its changes aren't in the WAL: ALTER TABLE … SET LOGGED")
	require.Contains(t, out, "shop.v1.Log\n  ! no source can have table logs: old_logs inherits from it")
	require.NotContains(t, out, "no source can have table presences")
	require.Contains(t, out, "shop.v1.ShopService.ListOldLogs\n  - it reads, by its name; if it changes anything, it is a write\n  ! it deals with OldLog, of a table that no source can have: see there")
	require.Contains(t, out, `{topics: "presences/{id}"}`)
	require.NotContains(t, out, `{topics: "logs/{id}"}`)
	for table, why := range map[string]string{"sessions": "it is unlogged", "presences": "it is unlogged", "logs": "old_logs inherits from it", "old_logs": "older_logs inherits from it", "visits": "its partition new_visits is unlogged", "imports": "its partition old_imports is a foreign table"} {
		require.Contains(t, out, "Left out, since no source can have it: "+table+"\n  ! "+why)
	}
	require.NotContains(t, out, "No message is a row of these tables")
}

// A name that lint refuses, since no contract can say it, is proposed to nobody. What the page
// of the rule has instead works: what is written by the table's old name is the table's.
func TestAdopt_leavesOutWhatNoContractCanSay(t *testing.T) {
	t.Parallel()
	database := testkit.Database(t)
	testkit.Exec(t, database, `
		create schema "lab.old";
		create table "lab.old".results (id bigint primary key);
		create table "count.sheets" (id bigint primary key);
		create table "a ""shelf""" (id bigint primary key);
		create table "rooms " (id bigint primary key);
		create table orders (id bigint primary key, "shelf.id" bigint, "he said ""x""" bigint)`)
	_, code, out, said := adopts(t, database, `syntax = "proto3";

package shop.v1;

message Result { int64 id = 1; }
message CountSheet { int64 id = 1; }
message AShelf { int64 id = 1; }
message Room { int64 id = 1; }
message Order { int64 id = 1; }
message ListOrdersRequest { int64 shelf_id = 1; int64 he_said_x = 2; }
message ListOrdersResponse { repeated Order orders = 1; }

service ShopService {
  rpc GetResult(Result) returns (Result);
  rpc GetCountSheet(CountSheet) returns (CountSheet);
  rpc GetAShelf(AShelf) returns (AShelf);
  rpc GetRoom(Room) returns (Room);
  rpc GetOrder(Order) returns (Order);
  rpc ListOrders(ListOrdersRequest) returns (ListOrdersResponse);
}
`)
	require.Equal(t, exitFailed, code, out+said)
	require.Empty(t, said, "lint finds nothing wrong with what is proposed")
	require.Contains(t, out, "4 methods are yours to decide")
	for _, table := range []string{"lab.old.results", "count.sheets", `a "shelf"`, "rooms "} {
		require.Contains(t, out, "  ! no source can have table "+table+": its name, or its schema's, has a dot or a quote in it, or a blank at an end,")
		require.Contains(t, out, "Left out, since no source can have it: "+table+"\n  ! its name, ")
	}
	require.Contains(t, out, `! shelf_id: no template can name column "shelf.id" of orders`)
	require.Contains(t, out, `! he_said_x: no template can name column "he said \"x\"" of orders`)

	page, err := os.ReadFile("docs/lint/table-name.md")
	require.NoError(t, err)
	statements := regexp.MustCompile("(?s)```sql\n(.*?)```").FindStringSubmatch(string(page))
	require.NotNil(t, statements)
	testkit.Exec(t, database, `create table "sheets.v2" (id bigint generated always as identity primary key, shelf text not null default 'a')`)
	testkit.Exec(t, database, strings.ReplaceAll(statements[1], "to app;", "to public;"))
	testkit.Exec(t, database, `insert into "sheets.v2" default values; update "sheets.v2" set shelf = 'b'`)
	var shelf string
	require.NoError(t, testkit.Conn(t, database).QueryRow(testkit.Context(t), `select shelf from sheets_v2 where id = 1`).Scan(&shelf))
	require.Equal(t, "b", shelf)
}

// A database without tables, one of something else, and nothing left to do are told apart.
func TestAdopt_saysWhyThereIsNothing(t *testing.T) {
	t.Parallel()
	dir := bare(t, "examples/notes/proto")
	database := testkit.Database(t)
	code, out, said := runs(t, "adopt", dir, "--database-url", database)
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Contains(t, said, "has no tables: run the service's migrations")
	testkit.Exec(t, database, "create table elsewhere (id int primary key); create table goose_db_version (id int primary key)")
	code, out, _ = runs(t, "adopt", dir, "--database-url", database)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "no message is named like one of the 2 tables. Is this the service's database?")
	require.Contains(t, out, "No message is a row of these tables: elsewhere\n")
	require.Contains(t, out, "Left out, since a migration tool keeps its record there: goose_db_version\n")
}
