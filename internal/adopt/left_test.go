package adopt

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// leftOf compiles protos with a service whose method is GetOrder, and returns what was
// left out, by the element that it is said of.
func leftOf(t *testing.T, messages, methods string) (Outcome, map[string]string) {
	t.Helper()
	fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; `+messages+"\nservice Shop {"+methods+"}")
	out, left := Propose([]protoreflect.FileDescriptor{fd}, shop), map[string]string{}
	for _, p := range out.Proposals {
		left[string(p.Element.Name())] = strings.Join(p.Left, "\n")
	}
	return out, left
}

// What isn't proposed is named, with why, and with what to do.
func TestPropose_namesWhatItLeavesOut(t *testing.T) {
	const get = "rpc GetOrder(Q) returns (Order);"
	for _, tt := range []struct{ name, messages, methods, of, want string }{
		{"a column of another table", "message Order { int64 id = 1; string category_slug = 2; } message Q { int64 id = 1; }", get,
			"Order", "category_slug: no column of orders. What comes from another table (category_slug may be stock.categories.slug) is NOT told"},
		{"a column of nobody knows what", "message Order { int64 id = 1; string colour = 2; } message Q { int64 id = 1; }", get,
			"Order", "colour: no column of orders. What comes from another table is NOT told"},
		{"a column of another table, where it is read", "message Order { int64 id = 1; string category_slug = 2; } message Q { int64 id = 1; }", get,
			"GetOrder", "it answers with Order, of which category_slug is NOT told by these topics: see there"},
		{"a row with another name", "message Order { int64 id = 1; repeated Line lines = 2; } message Line { int64 order_id = 1; string sku = 2; } message Q { int64 id = 1; }", get,
			"Line", `no table is named lines or line, but order_items has order_id, sku. If it is a row of that, say so`},
		{"a value", "message Order { int64 id = 1; Money money = 2; } message Money { int64 units = 1; } message Q { int64 id = 1; }", get,
			"Money", "no table is named moneys or money. If its fields are of the message around it, nothing is to be done"},
		{"a field that may be unset", "message Order { int64 id = 1; } message Q { optional string state = 1; }", get,
			"GetOrder", "state may be unset, and says nothing then"},
		{"a field that repeats", "message Order { int64 id = 1; } message Q { repeated string customer_ids = 1; }", get,
			"GetOrder", "customer_ids repeats: no topic goes by it"},
		{"a field of another type", "message Order { int64 id = 1; } message Q { int64 state = 1; }", get,
			"GetOrder", "state: column state of orders is text, which a field of type int64 may spell otherwise (007): no topic goes by it"},
		{"a field of a type that has nothing to do with it", "message Order { int64 id = 1; } message Q { bool customer_id = 1; }", get,
			"GetOrder", "customer_id: column customer_id of orders is uuid, which a field of type bool may spell otherwise: no topic goes by it"},
		{"a field that a source doesn't judge, since it is told", `message Order { option (freshet.v1.source) = {table: "orders" topics: "orders" topics: "orders/{id}" told: true}; int64 id = 1; } message Q { string id = 1; }`, get,
			"GetOrder", "id: column id of orders is int8, which a field of type string may spell otherwise (007): no topic goes by it"},
		{"a field that no template takes", "message Order { int64 id = 1; } message Q { State state = 1; } enum State { NONE = 0; }", get,
			"GetOrder", "state is of type enum, of which templates take no field"},
		{"a column of several texts", "message Order { int64 id = 1; } message Q { double total = 1; }", get,
			"GetOrder", "total: column total of orders is numeric, which has several texts"},
		{"a field named otherwise", "message Order { int64 id = 1; } message Q { string query = 1; int32 page_size = 2; }", get,
			"GetOrder", "query, page_size: named like no column of orders"},
		{"rows that a write holds", "message Order { int64 id = 1; repeated OrderItem items = 2; } message OrderItem { int64 order_id = 1; int32 line = 2; } message Q { Order order = 1; }", "rpc PlaceOrder(Q) returns (Order);",
			"PlaceOrder", "the request holds OrderItem, a row of order_items: if the method changes that table too"},
		{"an identity", "message Order { int64 id = 1; } message Q { string customer_id = 1; }", get,
			"Order", "customer_id is outside the primary key"},
		{"a table without a key", "message Label { string word = 1; } message Q {}", "rpc ListLabels(Q) returns (Label);",
			"Label", "Labels has no primary key"},
		{"a source that tells no topic of the request", `message Order { option (freshet.v1.source) = {table: "orders" topics: "customers/{customer_id}/orders"}; int64 id = 1; } message Q { int64 id = 1; }`, get,
			"GetOrder", `the source Order tells "customers/{customer_id}/orders", of which the request spells none: have it tell "orders" as well`},
		{"a source that names no column", `message Order { option (freshet.v1.source) = {table: "orders" topics: "orders/{ID}" topics: "colours/{colour}/orders"}; int64 id = 1; } message Q {}`, get,
			"Order", "topic \"orders/{ID}\" of its source names column ID, which orders doesn't have; there it is \"id\", and a template names a column in its true case\ntopic \"colours/{colour}/orders\" of its source names column colour, which orders doesn't have"},
		{"a source of no table", `message Thing { option (freshet.v1.source) = {table: "things" topics: "things"}; string id = 1; } message Q {} message R { Thing thing = 1; }`, "rpc GetThing(Q) returns (R);",
			"Thing", "its source is table things, which isn't in this database"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, left := leftOf(t, tt.messages, tt.methods)
			require.Contains(t, left[tt.of], tt.want)
		})
	}
}

// A text goes by a column of any type that a template takes: the server refuses what isn't
// spelled as that type is, or takes any text. Where rows are told, it can't judge.
func TestPropose_textsOfOtherTypes(t *testing.T) {
	orders := []*Table{{Schema: "public", Name: "orders", Columns: []Column{
		{Name: "name", Type: "text"}, {Name: "code", Type: "varchar"}, {Name: "status", Type: "order_status", Enum: true},
		{Name: "due", Type: "date"}, {Name: "nr", Type: "int4"}, {Name: "open", Type: "bool"}, {Name: "shelf_id", Type: "uuid"}, {Name: "made", Type: "timestamptz"},
	}}}
	for field, is := range map[string]struct {
		topic        string
		judged, told bool
	}{
		"name": {"names/{name}/orders", false, true}, "code": {"codes/{code}/orders", false, true}, "status": {"statuses/{status}/orders", false, true},
		"due": {"dues/{due}/orders", true, false}, "nr": {"nrs/{nr}/orders", true, false}, "open": {"opens/{open}/orders", true, false},
		"shelf": {"shelfs/{shelf}/orders", true, false}, "made": {"orders", false, false},
	} {
		for _, told := range []bool{false, true} {
			source := ""
			if told {
				source = `option (freshet.v1.source) = {table: "orders" topics: "orders" topics: "` + strings.ReplaceAll(is.topic, "{shelf}", "{shelf_id}") + `" told: true};`
			}
			fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; message Order {`+source+"string name = 1; } message Page { repeated Order orders = 1; } message Q { string "+field+" = 1; }\nservice Shop { rpc ListOrders(Q) returns (Page); }")
			proposals := Propose([]protoreflect.FileDescriptor{fd}, orders).Proposals
			p, want := proposals[len(proposals)-1], "reads "+is.topic
			if told && !is.told {
				want = "reads orders"
			}
			require.Equal(t, want, summary(strings.Join(p.Options, " ")))
			require.Equal(t, is.judged && !told, strings.Contains(strings.Join(p.Why, " "), "the server refuses a request that spells it otherwise"), "%s: %s", field, p.Why)
		}
	}
}

// What is as it should be is no cause for a word: times after AIP-142, a resource's name,
// fields beside a key, and whatever is declared already.
func TestPropose_saysNothingOfWhatIsRight(t *testing.T) {
	_, left := leftOf(t, "message Order { int64 id = 1; string customer = 2; repeated OrderItem items = 3; } message OrderItem { int64 order_id = 1; int32 line = 2; } message Q { int64 id = 1; optional string state = 2; string view = 3; }",
		"rpc GetOrder(Q) returns (Order);")
	require.Equal(t, map[string]string{"Order": "", "OrderItem": "", "GetOrder": ""}, left)

	// A write answers with what it is told: that not all of a row is known by its topics is
	// said at the row, and at the methods that read it.
	_, left = leftOf(t, "message Order { int64 id = 1; string category_slug = 2; } message Q { int64 id = 1; }", "rpc CancelOrder(Q) returns (Order);")
	require.Contains(t, left["Order"], "category_slug: no column of orders")
	require.Empty(t, left["CancelOrder"])

	stamped := &Table{Name: "x", Columns: columns("created_at timestamptz", "expires_at timestamptz", "start_time timestamptz")}
	for field, want := range map[string]bool{"create_time": true, "expire_time": true, "expires_time": true, "start_time": true, "delete_time": false} {
		require.Equal(t, want, stamped.holds(field), field)
	}

	out, _ := leftOf(t, `message Order { option (freshet.v1.source) = {table: "orders" topics: "orders"}; int64 id = 1; string colour = 2; Money money = 3; } message Money {} message Q {}`,
		`rpc GetOrder(Q) returns (Order) { option idempotency_level = NO_SIDE_EFFECTS; option (freshet.v1.reads) = {topics: "orders"}; }`)
	require.Equal(t, Outcome{Rows: 1, Declared: 1}, out)
}

// What a method sends its reader to is there, whichever of them is looked at first: that a
// row's name is a path, and so no other table's, any may tell.
func TestPropose_seeThereIsThere(t *testing.T) {
	const (
		row      = "message Order { string name = 1; string state = 2; } message Page { repeated Order orders = 1; } message Name { string name = 1; } message Parent { string parent = 1; } message Q {} "
		joined   = "message Order { string name = 1; string state = 2; string colour = 3; } message Page { repeated Order orders = 1; } message Name { string name = 1; } message Parent { string parent = 1; } message Q {} "
		declared = `message Order { option (freshet.v1.source) = {table: "orders" topics: "orders/{id}"}; string colour = 1; } message Q {} `
		get      = "rpc GetOrder(Name) returns (Order); "
		list     = "rpc ListOrders(Parent) returns (Page); "
		find     = "rpc FindOrders(Q) returns (Page); "
	)
	for _, tt := range []struct{ messages, methods, of string }{
		{row, get + list, ""},
		{row, list + get, ""},
		{row, find + get, ""},
		{row, get + find, ""},
		{row, find, "name"},
		{joined, get + list + find, "colour"},
		{joined, find + list + get, "colour"},
		{declared, "rpc FindOrder(Q) returns (Order);", ""}, // it has no topics, and says that
	} {
		out, left := leftOf(t, tt.messages, tt.methods)
		for _, p := range out.Proposals {
			of, said := left[string(p.Element.Name())], "of which "+tt.of+" is NOT told"
			if _, isRow := p.Element.(protoreflect.MessageDescriptor); isRow {
				said = tt.of + ": no column of orders"
			}
			if tt.of == "" {
				require.NotContains(t, of, "NOT told", tt)
			} else {
				require.Contains(t, of, said, tt)
			}
		}
	}
}

// Of two packages' messages of one name, a method is about its own package's.
func TestPropose_ofItsOwnPackage(t *testing.T) {
	for _, version := range []string{"v1", "v2"} { // in whatever order they come
		one := compile(t, `syntax = "proto3"; package shop.v1; message Order { int64 id = 1; string colour = 2; } message Q {}`)
		two := compile(t, `syntax = "proto3"; package shop.v2; message Order { int64 id = 1; } message Q {} message ListOrdersResponse { repeated Order orders = 1; }
service Shop { rpc ListOrders(Q) returns (ListOrdersResponse); }`)
		files := []protoreflect.FileDescriptor{one, two}
		if version == "v2" {
			slices.Reverse(files)
		}
		out := Propose(files, shop)
		last := out.Proposals[len(out.Proposals)-1]
		require.Equal(t, protoreflect.Name("ListOrders"), last.Element.Name())
		require.Empty(t, last.Left)
	}
}

// A request's id is of what the method is about, and of no other table whose rows it
// answers with: a topic by it would be another row's.
func TestPropose_idIsOfTheMain(t *testing.T) {
	for id, want := range map[string]string{"double id = 1;": "reads orders categories", "int64 id = 1;": "reads orders/{id} categories"} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; message Order { int64 id = 1; Category category = 2; } message Category { string id = 1; } message Q {`+id+`}
service Shop { rpc GetOrder(Q) returns (Order); }`)
		out := Propose([]protoreflect.FileDescriptor{fd}, shop)
		last := out.Proposals[len(out.Proposals)-1]
		require.Equal(t, want, summary(strings.Join(last.Options, " ")))
		require.NotContains(t, strings.Join(last.Left, "\n"), "categories")
	}
}

// A message in the plural that repeats the one in the singular has rows, and is none: what is
// proposed is as with any other name for it, also where a response holds it.
func TestPropose_collection(t *testing.T) {
	for list, method := range map[string]string{
		"message Orders { repeated Order orders = 1; }":                                  "rpc ListOrders(Q) returns (Orders);",
		"message Orders { map<string, Order> by_id = 1; string state = 2; }":             "rpc ListOrders(Q) returns (Orders);",
		"message Orders { repeated Order orders = 1; } message R { Orders orders = 1; }": "rpc ListOrders(Q) returns (R);",
		"message Page { repeated Order orders = 1; }":                                    "rpc ListOrders(Q) returns (Page);",
	} {
		out, left := leftOf(t, "message Order { int64 id = 1; string state = 2; } message Q { string state = 1; } "+list, method)
		require.Len(t, out.Proposals, 2, list)
		require.Equal(t, "Order", string(out.Proposals[0].Element.Name()))
		require.Equal(t, "reads states/{state}/orders", summary(strings.Join(out.Proposals[1].Options, " ")))
		require.Contains(t, left["ListOrders"], "state may be empty")
	}
	out, _ := leftOf(t, "message Orders { int64 id = 1; repeated Order children = 2; } message Order { string x = 1; } message Q { int64 id = 1; }", "rpc GetOrders(Q) returns (Orders);")
	require.Equal(t, 1, out.Rows, "Order")
	out, _ = leftOf(t, "message Labels { string word = 1; repeated Word words = 2; } message Word {} message Q {}", "rpc GetLabels(Q) returns (Labels);")
	require.Equal(t, 1, out.Rows, "a row may have the table's name, and repeat what is no row")
}

// Advice is given once, and to a member of a oneof none that is for `optional`.
func TestPropose_saysOnceWhatIsOfTwoTables(t *testing.T) {
	_, left := leftOf(t, "message Order { int64 id = 1; repeated OrderItem items = 2; } message OrderItem { int64 order_id = 1; } message Q { oneof by { int64 order_id = 1; string state = 2; } }", "rpc GetOrder(Q) returns (Order);")
	require.Equal(t, 1, strings.Count(left["GetOrder"], "order_id is a member of a oneof"), left["GetOrder"])
	require.Contains(t, left["GetOrder"], "state is a member of a oneof")
	require.NotContains(t, left["GetOrder"], "optional")
}

// A row whose column is NULL has no topic by it, which is said of each topic that methods go
// by, also of a source that was given by hand; but of no topic that somebody else tells.
func TestPropose_namesWhatMayBeNull(t *testing.T) {
	folders := []*Table{{Schema: "public", Name: "folders", Key: []string{"id"}, Columns: columns("id int8", "parent_id int8?+", "owner_id int8+", "color text?")}}
	const (
		inParent = `parent_id may be NULL, and a row in which it is tells nothing on "folders/{parent_id}/list"`
		source   = `option (freshet.v1.source) = {table: "folders" topics: "folders/{parent_id}/list" `
	)
	for _, tt := range []struct{ source, request, want string }{
		{"", "int64 parent_id = 1;", `parent_id may be NULL, and a row in which it is tells nothing on "parents/{parent_id}/folders". If a method that goes by this answers with such rows, have its topic be "folders", here and there;`},
		{"", "int64 parent_id = 1; string color = 2; int64 owner_id = 3;", `parent_id or color may be NULL, and a row in which it is tells nothing on "parents/{parent_id}/owners/{owner_id}/colors/{color}/folders"`},
		{"", "int64 owner_id = 1;", ""},
		{"", "int64 id = 1;", ""},
		{source + "};", "int64 parent_id = 1;", inParent},
		{source + `topics: "all"};`, "int64 parent_id = 1;", inParent + `. If a method that goes by this answers with such rows, have its topic be "all"`},
		{source + `topics: "all"};`, "", ""},
		{source + "told: true};", "int64 parent_id = 1;", ""},
	} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; message Folder {`+tt.source+` int64 id = 1; } message Page { repeated Folder list = 1; } message Q {`+tt.request+"}\nservice Shop { rpc ListFolder(Q) returns (Page); }")
		var left []string
		for _, p := range Propose([]protoreflect.FileDescriptor{fd}, folders).Proposals {
			left = append(left, p.Left...)
		}
		require.Equal(t, tt.want != "", strings.Contains(strings.Join(left, "\n"), "may be NULL"), left)
		require.Contains(t, strings.Join(left, "\n"), tt.want)
	}
}

// A materialized view is told by whoever refreshes it, also where its source was given by hand.
func TestPropose_declaredView(t *testing.T) {
	view := []*Table{{Schema: "public", Name: "totals", View: true, Columns: columns("id int8")}}
	for told, says := range map[string]bool{"": true, "told: true": false} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; message Total { option (freshet.v1.source) = {table: "totals" topics: "totals" `+told+`}; int64 id = 1; } message Q {}
service Shop { rpc GetTotal(Q) returns (Total); }`)
		var left []string
		for _, p := range Propose([]protoreflect.FileDescriptor{fd}, view).Proposals {
			left = append(left, p.Left...)
		}
		require.Equal(t, says, strings.Contains(strings.Join(left, "\n"), "add `told: true` to its source"), left)
	}
}

// A message's own word on its table goes before its name.
func TestPropose_goesByTheDeclaredSource(t *testing.T) {
	out, _ := leftOf(t, `message Line { option (freshet.v1.source) = {table: "public.order_items" topics: "orders/{order_id}/order_items"}; int64 order_id = 1; } message Q { int64 order_id = 1; }`,
		"rpc ListLines(Q) returns (Line);")
	require.Len(t, out.Proposals, 1)
	require.Equal(t, "reads orders/{order_id}/order_items", summary(strings.Join(out.Proposals[0].Options, " ")))
	require.Equal(t, "orders, stock.categories, Labels", list(out.Unread))
}

// Methods go by what the source of a message tells, once that is given: by topics that the
// request can spell, however they are named, and by none that no source emits.
func TestPropose_goesByTheDeclaredTopics(t *testing.T) {
	results := []*Table{{Schema: "lab", Name: "Lab Results", Key: []string{"resultId"}, Columns: columns("resultId int8", "patientId uuid+", "kind text")}}
	const (
		get     = "rpc GetLabResult(Q) returns (LabResult);"
		list    = "rpc ListLabResults(Q) returns (Results);"
		update  = "rpc UpdateLabResult(Q) returns (LabResult);"
		byID    = "int64 result_id = 1;"
		byOwner = "string patient_id = 1;"
		path    = "string name = 1;"
		parent  = "string parent = 1;"
	)
	for _, tt := range []struct{ topics, request, method, want string }{
		{`topics: "labResults/{resultId}"`, byID, get, "reads labResults/{result_id}"},
		{`topics: "labResults" topics: "labResults/{resultId}"`, byID, get, "reads labResults/{result_id}"},
		{`topics: "labResults" topics: "labResults/{resultId}"`, byOwner, list, "reads labResults"},
		{`topics: "all/{patientId}" topics: "all/{patientId}/{kind}"`, "string patientId = 1; string kind = 2;", list, "reads all/{patientId}/{kind}"},
		{`topics: "results/{resultId}" topics: "of/{patientId}/results" topics: "results"`, "LabResult result = 1;", update, "writes results/{result.result_id} of/{result.patient_id}/results"},
		{`topics: "results/{resultId}"`, byOwner, list, ""},
		{`topics: "patients/{patientId}/Results"`, parent, list, "reads {parent=**}/Results"},
		{`topics: "patients/{patientId}/Results/{resultId}"`, path, get, "reads {name=**}"},
		{`topics: "results/{resultId}" topics: "results"`, parent, list, "reads results"},
		{`topics: "results"`, path, get, "reads results"},
	} {
		messages := `message LabResult { option (freshet.v1.source) = {table: "lab.Lab Results" ` + tt.topics + `}; int64 result_id = 1; string patient_id = 2; string kind = 3; } message Results { repeated LabResult results = 1; } `
		fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; `+messages+"message Q {"+tt.request+"}\nservice Shop {"+tt.method+"}")
		out := Propose([]protoreflect.FileDescriptor{fd}, results)
		require.Len(t, out.Proposals, 1, "nothing is to be said of the source: %v", out.Proposals)
		require.Equal(t, tt.want, summary(strings.Join(out.Proposals[0].Options, " ")), tt.topics)
		require.Equal(t, tt.want == "", out.Open == 1)
	}
}

// Without a declaration names are those of the columns, where templates name these, and
// words with underscores elsewhere.
func TestPropose_camelCase(t *testing.T) {
	results := []*Table{{Schema: "lab", Name: "labResults", Key: []string{"resultId"}, Columns: columns("resultId int8", "patientId uuid+", "takenAt timestamptz")}}
	for request, want := range map[string][2]string{
		"int64 result_id = 1;":   {"reads lab_results/{result_id}", "lab_results/{resultId}"},
		"int64 resultId = 1;":    {"reads lab_results/{resultId}", "lab_results/{resultId}"},
		"string patient_id = 1;": {"reads patients/{patient_id}/lab_results", "patients/{patientId}/lab_results"},
		"string patient = 1;":    {"reads patients/{patient}/lab_results", "patients/{patientId}/lab_results"},
		"string parent = 1;":     {"reads {parent=**}/lab_results", "patients/{patientId}/lab_results"},
		"string x = 2;\nstring name = 1; // patients/{patientId}/results/{resultId}\n": {"reads {name=**}", "patients/{patientId}/lab_results/{resultId}"},
	} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; message LabResult { int64 result_id = 1; string patientId = 2; string taken_time = 3; string name = 4; } message Results { repeated LabResult results = 1; } message Q {`+request+"}\nservice Shop { rpc ListLabResults(Q) returns (Results); }")
		out := Propose([]protoreflect.FileDescriptor{fd}, results)
		require.Len(t, out.Proposals, 2)
		require.Equal(t, want[0], summary(strings.Join(out.Proposals[1].Options, " ")), request)
		require.Contains(t, strings.Join(out.Proposals[0].Options, " "), want[1], request)
		require.NotContains(t, strings.Join(out.Proposals[0].Left, " "), "patientId: no column")
	}
}

// What a migration tool keeps is no row of anything, whatever a message is named; unless it
// says that it is.
func TestPropose_leavesOutRecordsOfMigrations(t *testing.T) {
	tables := append([]*Table{
		{Schema: "public", Name: "schema_migrations", Columns: columns("version int8"), Key: []string{"version"}},
		{Schema: "public", Name: "SequelizeMeta", Columns: columns("name text")},
	}, shop...)
	const methods = "rpc GetOrder(Order) returns (Order); rpc GetSchemaMigration(SchemaMigration) returns (SchemaMigration);"
	for option, want := range map[string]string{
		"": "",
		`option (freshet.v1.source) = {table: "schema_migrations" topics: "schema"};`: "reads schema",
	} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; import "freshet/v1/options.proto"; message Order { int64 id = 1; } message SchemaMigration {`+option+" int64 version = 1; }\nservice Shop {"+methods+"}")
		out := Propose([]protoreflect.FileDescriptor{fd}, tables)
		require.Equal(t, "order_items, stock.categories, Labels", list(out.Unread))
		require.Equal(t, "schema_migrations, SequelizeMeta", list(out.Records))
		last := out.Proposals[len(out.Proposals)-1]
		require.Equal(t, want, summary(strings.Join(last.Options, " ")))
	}
}

// The import goes where buf format has it.
func TestApply_import(t *testing.T) {
	const rest = "message Order { int64 id = 1; }\nservice Shop { rpc GetOrder(Order) returns (Order); }\n"
	for _, tt := range []struct{ name, before, after string }{
		{"behind the package", "syntax = \"proto3\";\n\npackage a;\n\noption java_package = \"a\";\n", "syntax = \"proto3\";\n\npackage a;\n\nimport \"freshet/v1/options.proto\";\n\noption java_package = \"a\";\n"},
		{"behind a package with a comment, and no line between", "syntax = \"proto3\";\npackage a; // a\noption java_package = \"a\";\n", "syntax = \"proto3\";\npackage a; // a\n\nimport \"freshet/v1/options.proto\";\n\noption java_package = \"a\";\n"},
		{"without a package", "syntax = \"proto3\";\n\n", "syntax = \"proto3\";\n\nimport \"freshet/v1/options.proto\";\n\n"},
		{"before others", "syntax = \"proto3\";\n\npackage a;\n\nimport \"google/protobuf/any.proto\";\nimport \"google/protobuf/empty.proto\";\n\n", "syntax = \"proto3\";\n\npackage a;\n\nimport \"freshet/v1/options.proto\";\nimport \"google/protobuf/any.proto\";\nimport \"google/protobuf/empty.proto\";\n\n"},
		{"between others", "syntax = \"proto3\";\npackage a;\nimport \"a.proto\";\nimport \"google/protobuf/any.proto\";\n", "syntax = \"proto3\";\npackage a;\nimport \"a.proto\";\nimport \"freshet/v1/options.proto\";\nimport \"google/protobuf/any.proto\";\n"},
		{"behind others", "syntax = \"proto3\";\npackage a;\nimport \"a.proto\";\n\n", "syntax = \"proto3\";\npackage a;\nimport \"a.proto\";\nimport \"freshet/v1/options.proto\";\n\n"},
		{"in its lines' ends", "syntax = \"proto3\";\r\npackage a;\r\n\r\n", "syntax = \"proto3\";\r\npackage a;\r\n\r\nimport \"freshet/v1/options.proto\";\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd := compile(t, tt.before+rest)
			after, err := Apply(fd, tt.before+rest, Propose([]protoreflect.FileDescriptor{fd}, shop).Proposals)
			require.NoError(t, err)
			head, _, _ := strings.Cut(after, "message Order")
			require.Equal(t, tt.after, head)
			compile(t, after)
		})
	}
}
