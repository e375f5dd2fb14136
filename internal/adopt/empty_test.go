package adopt

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate" // its file is registered
)

// whys are why it is proposed for the one method of a service.
func whys(t *testing.T, tables []*Table, messages, method string) string {
	t.Helper()
	fd := compile(t, `syntax = "proto3"; package shop.v1; `+messages+"\nservice Shop {"+method+"}")
	var all []string
	for _, p := range Propose([]protoreflect.FileDescriptor{fd}, tables).Proposals {
		all = append(all, p.Why...)
	}
	return strings.Join(all, "\n")
}

// proposed is what is proposed for the one method of a service, and what was left out.
func proposed(t *testing.T, tables []*Table, messages, method string) (options, left string) {
	t.Helper()
	fd := compile(t, `syntax = "proto3"; package shop.v1; import "buf/validate/validate.proto"; import "behavior.proto"; `+messages+"\nservice Shop {"+method+"}")
	for _, p := range Propose([]protoreflect.FileDescriptor{fd}, tables).Proposals {
		if _, ok := p.Element.(protoreflect.MethodDescriptor); ok {
			options, left = summary(strings.Join(p.Options, " ")), strings.Join(p.Left, "\n")
		}
	}
	return options, left
}

// A list whose only topic goes by what a request may leave empty is proposed with a word
// on it, unless such a request is refused, or there is one row or none for it.
func TestPropose_namesWhatMayBeEmpty(t *testing.T) {
	const messages = "message Order { int64 id = 1; string customer_id = 2; string state = 3; } message List { repeated Order orders = 1; } message One { Order order = 1; } message Total { int64 total = 1; } "
	const list = "rpc ListOrders(Q) returns (List);"
	tables := []*Table{{Schema: "public", Name: "orders", Key: []string{"id"}, Columns: columns("id int8", "customer_id uuid+", "state text", "open bool", "nr int4")}}
	for _, tt := range []struct{ name, request, method, want string }{
		{"a filter", "string customer_id = 1; int32 page_size = 2;", list, `customer_id may be empty, for all that the proto says. If such a request is answered with all, no topic tells that the answer changes: have the topic be "orders" then`},
		{"two", "string customer_id = 1; string state = 2;", list, "customer_id or state may be empty"},
		{"of two, the one that is not refused", "string customer_id = 1 [(buf.validate.field).string.min_len = 1]; string state = 2;", list, "state may be empty"},
		{"a count", "string customer_id = 1;", "rpc CountOrders(Q) returns (Total);", "customer_id may be empty"},
		{"refused by its length", "string customer_id = 1 [(buf.validate.field).string.min_len = 1];", list, ""},
		{"refused by its form", "string customer_id = 1 [(buf.validate.field).string.uuid = true];", list, ""},
		{"required", "string customer_id = 1 [(buf.validate.field).required = true];", list, ""},
		{"optional and required", "optional string customer_id = 1 [(buf.validate.field).required = true];", list, ""},
		{"required by AIP-203", "string customer_id = 1 [(google.api.field_behavior) = REQUIRED];", list, ""},
		{"one row", "string customer_id = 1;", "rpc GetOrder(Q) returns (Order);", ""},
		{"one row, in an answer", "string customer_id = 1;", "rpc GetOrder(Q) returns (One);", ""},
		{"a boolean, which has a value always", "bool open = 1;", list, `open is false in a request that doesn't say it. If such a request is answered with all, no topic tells that the answer changes: have the topic be "orders" then, here and in the source (`},
		{"a boolean that has to be true", "bool open = 1 [(buf.validate.field).bool.const = true];", list, ""},
		{"a number, as well", "int64 nr = 1;", list, "nr is 0 in a request that doesn't say it. If such a request is answered with all, no topic tells that the answer changes: have the topic be \"orders\" then, here and in the source, or refuse"},
		{"one of each", "bool open = 1; int64 nr = 2; string state = 3;", list, "state may be empty, for all that the proto says. If"},
		{"the key", "int64 id = 1;", list, ""},
		{"a write", "string customer_id = 1;", "rpc DropOrders(Q) returns (Total);", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options, left := proposed(t, tables, messages+"message Q {"+tt.request+"}", tt.method)
			require.NotEmpty(t, options)
			if tt.want == "" {
				require.Empty(t, left)
			} else {
				require.Contains(t, left, tt.want)
				require.LessOrEqual(t, strings.Count(left, "may be empty"), 1)
				require.NotRegexp(t, "(open|nr)[^.]* may be empty", left)
			}
		})
	}
}

// What the database fills when it makes a row is no topic of the request that makes it.
func TestPropose_createDoesNotKnowWhatTheDatabaseMakes(t *testing.T) {
	for _, made := range []made{"", byIdentity, bySerial, byDefault} {
		tables := []*Table{{Schema: "public", Name: "orders", Key: []string{"id"}, Columns: []Column{
			{Name: "id", Type: "int8", Made: made}, {Name: "customer_id", Type: "uuid", FK: true},
		}}}
		const messages = "message Order { int64 id = 1; string customer_id = 2; } message Q { Order order = 1; }"
		options, left := proposed(t, tables, messages, "rpc CreateOrder(Q) returns (Order);")
		updates, none := proposed(t, tables, messages, "rpc UpdateOrder(Q) returns (Order);")
		require.Equal(t, "writes orders/{order.id} customers/{order.customer_id}/orders", updates)
		require.Empty(t, none)
		if made == "" {
			require.Equal(t, updates, options)
			require.Empty(t, left)
			continue
		}
		require.Equal(t, "writes customers/{order.customer_id}/orders", options)
		require.Contains(t, left, "order.id: the database makes column id of orders ("+string(made)+") when it makes the row")

		tables[0].Columns[1].FK = false // nothing else is known of it
		options, _ = proposed(t, tables, messages, "rpc CreateOrder(Q) returns (Order);")
		require.Equal(t, "writes orders", options)
		require.Contains(t, whys(t, tables, messages, "rpc CreateOrder(Q) returns (Order);"), "(order.customer_id, …) is neither its key nor which list a row is in, so it is about the whole table")
	}
}

// A materialized view is no part of the WAL: its source is told.
func TestPropose_materializedView(t *testing.T) {
	tables := []*Table{{Schema: "work", Name: "stats", View: true, Columns: []Column{{Name: "project", Type: "text"}, {Name: "tasks", Type: "int8"}}}}
	fd := compile(t, `syntax = "proto3"; package shop.v1;
message Stat { string project = 1; int64 tasks = 2; }
message Q { string project = 1; }
service Shop { rpc GetStat(Q) returns (Stat); }`)
	var options, left []string
	for _, p := range Propose([]protoreflect.FileDescriptor{fd}, tables).Proposals {
		options, left = append(options, strings.Join(p.Options, " ")), append(left, p.Left...)
	}
	require.Equal(t, []string{
		`option (freshet.v1.source) = {   table: "work.stats"   topics: "stats"   told: true };`,
		`option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "stats"};`,
	}, options)
	require.Len(t, left, 1)
	require.Contains(t, left[0], "whoever refreshes it tells its topics")
}

// Names that need quotes in SQL: a table has one word in topics, a column none.
func TestPropose_quotedNames(t *testing.T) {
	tables := []*Table{{Schema: "Stock", Name: "Count Sheets", Key: []string{"id"}, Columns: []Column{
		{Name: "id", Type: "int8"}, {Name: "Shelf Id", Type: "text"}, {Name: "Room_Id", Type: "text"}, {Name: "total", Type: "text", Made: generated},
		{Name: "state", Type: "sheet_state", Enum: true},
	}}}
	const messages = "message CountSheet { int64 id = 1; string shelf_id = 2; string room_id = 3; } message List { repeated CountSheet sheets = 1; } message Q { %s }"
	for request, want := range map[string][2]string{
		"int64 id = 1;":                    {"reads count_sheets/{id}", ""},
		"string room_id = 1;":              {"reads rooms/{room_id}/count_sheets", "room_id may be empty"},
		"string shelf_id = 1;":             {"reads count_sheets", `shelf_id: no template can name column "Shelf Id" of Stock.Count Sheets`},
		"string total = 1;":                {"reads count_sheets", "total: column total of Stock.Count Sheets is generated, which isn't in the WAL"},
		"string state = 1;":                {"reads states/{state}/count_sheets", "state may be empty"},
		"int32 state = 1;":                 {"reads count_sheets", "state: column state of Stock.Count Sheets is sheet_state, which a field of type int32 may spell otherwise: no"},
		"string room_id=1; int32 state=2;": {"reads rooms/{room_id}/count_sheets", "state: column state"},
	} {
		options, left := proposed(t, tables, strings.ReplaceAll(messages, "%s", request), "rpc ListCountSheets(Q) returns (List);")
		require.Equal(t, want[0], options)
		require.Contains(t, left, want[1])
	}
	for name, want := range map[string]bool{"id": true, "Id2": true, "_a": true, "2nd": false, "a b": false, "größe": false, "": false, "a-b": false} {
		require.Equal(t, want, isName(name), name)
	}
}

// A key that no template can spell is no path either.
func TestPropose_quotedKeys(t *testing.T) {
	for _, key := range [][]string{{"Room Id", "id"}, {"id", "Room Id"}} {
		tables := []*Table{{Schema: "public", Name: "sheets", Key: key, Columns: []Column{{Name: "id", Type: "text"}, {Name: "Room Id", Type: "text"}}}}
		for _, field := range []string{"parent", "name"} {
			options, _ := proposed(t, tables, "message Sheet { string id = 1; } message Q { string "+field+" = 1; }", "rpc GetSheet(Q) returns (Sheet);")
			if field == "parent" && key[0] == "id" {
				require.Equal(t, "reads {parent=**}/sheets", options)
			} else {
				require.Equal(t, "reads sheets", options)
			}
		}
	}
}
