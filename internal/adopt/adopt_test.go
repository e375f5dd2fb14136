package adopt

import (
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/freshet-dev/freshet/gen/freshet/v1" // its file is registered
)

// behavior is google/api/field_behavior.proto, in short.
const behavior = `syntax = "proto3"; package google.api; import "google/protobuf/descriptor.proto";
enum FieldBehavior { FIELD_BEHAVIOR_UNSPECIFIED = 0; OPTIONAL = 1; REQUIRED = 2; }
extend google.protobuf.FieldOptions { repeated FieldBehavior field_behavior = 1052; }`

func compile(t *testing.T, text string) protoreflect.FileDescriptor {
	t.Helper()
	c := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard | protocompile.SourceInfoExtraComments,
		Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"shop.proto": text, "a.proto": `syntax = "proto3";`, "behavior.proto": behavior})},
			protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
				fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
				return protocompile.SearchResult{Desc: fd}, err
			}),
		}),
	}
	files, err := c.Compile(t.Context(), "shop.proto")
	require.NoError(t, err)
	return files[0]
}

// columns makes those of a table, of `name type`, a ? behind it that may be NULL, and a + that
// is a foreign key.
func columns(list ...string) (all []Column) {
	for _, text := range list {
		name, typ, _ := strings.Cut(text, " ")
		typ, fk := strings.CutSuffix(typ, "+")
		typ, nullable := strings.CutSuffix(typ, "?")
		all = append(all, Column{Name: name, Type: typ, Nullable: nullable, FK: fk})
	}
	return all
}

var shop = []*Table{
	{Schema: "public", Name: "orders", Columns: columns("id int8", "customer_id uuid+", "state text", "total numeric"), Key: []string{"id"}},
	{Schema: "public", Name: "order_items", Columns: columns("order_id int8+", "line int4", "sku text"), Key: []string{"order_id", "line"}},
	{Schema: "stock", Name: "categories", Columns: columns("id uuid", "slug text"), Key: []string{"id"}},
	{Schema: "public", Name: "Labels", Columns: columns("word text")},
}

func TestPropose(t *testing.T) {
	const messages = `
message Order { int64 id = 1; string customer_id = 2; string state = 3; double total = 4; repeated OrderItem items = 5; }
message OrderItem { int64 order_id = 1; int32 line = 2; string sku = 3; }
message Category { string id = 1; string slug = 2; }
message Label { string text = 1; }
message Empty {}
`
	for _, tt := range []struct{ name, request, method, want, source string }{
		{"by the key", "int64 id = 1;", "rpc GetOrder(Q) returns (Order);", "reads orders/{id} order_items", "orders/{id}"},
		{"by the key, named in full", "int64 order_id = 1;", "rpc GetOrder(Q) returns (Order);", "reads orders/{order_id} orders/{order_id}/order_items", "orders/{id}"},
		{"by a foreign key", "string customer_id = 1; int32 page_size = 2;", "rpc ListOrders(Q) returns (Order);", "reads customers/{customer_id}/orders order_items", "customers/{customer_id}/orders"},
		{"by its stem", "string customer = 1;", "rpc ListOrders(Q) returns (Empty);", "reads customers/{customer}/orders", "customers/{customer_id}/orders"},
		{"by nothing", "", "rpc ListCategories(Q) returns (Category);", "reads categories", "categories"},
		{"by what may be unset", "optional string slug = 1;", "rpc FindCategory(Q) returns (Category);", "reads categories", "categories"},
		{"by what repeats", "repeated string id = 1;", "rpc BatchGetCategory(Q) returns (Category);", "reads categories", "categories"},
		{"by what has another type", "double id = 1;", "rpc GetOrder(Q) returns (Empty);", "reads orders", "orders"},
		{"by a text of another type, which the server judges", "string id = 1;", "rpc GetOrder(Q) returns (Empty);", "reads orders/{id}", "orders/{id}"},
		{"by a type without one text", "double total = 1;", "rpc ListOrder(Q) returns (Empty);", "reads orders", "orders"},
		{"of a table with capitals", "", "rpc ListLabels(Q) returns (Label);", "reads labels", "labels"},
		{"no side effects", "", "rpc Categories(Q) returns (Category) { option idempotency_level = NO_SIDE_EFFECTS; }", "reads categories", "categories"},
		{"a write by the key", "Order order = 1;", "rpc UpdateOrder(Q) returns (Empty);", "writes orders/{order.id} customers/{order.customer_id}/orders", "orders/{id}"},
		{"a write of a composite key", "int64 order_id = 1; int32 line = 2;", "rpc DeleteOrderItem(Q) returns (Empty);", "writes order_items/{order_id}/{line} orders/{order_id}/order_items", "order_items/{order_id}/{line}"},
		{"a write of who knows what", "string what = 1;", "rpc PurgeLabel(Q) returns (Empty);", "writes labels", "labels"},
		{"a stream", "", "rpc WatchOrders(Q) returns (stream Order);", "", ""},
		{"no table", "", "rpc GetWeather(Q) returns (Empty);", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd := compile(t, `syntax = "proto3"; package shop.v1;`+messages+"message Q {"+tt.request+"}\nservice Shop {\n  "+tt.method+"\n}\n")
			var got string
			var emitted []string
			for _, p := range Propose([]protoreflect.FileDescriptor{fd}, shop).Proposals {
				require.NotEmpty(t, p.Why)
				text := strings.Join(p.Options, " ")
				if _, method := p.Element.(protoreflect.MethodDescriptor); !method {
					emitted = append(emitted, text)
					continue
				}
				got = summary(text)
				require.Equal(t, strings.HasPrefix(tt.want, "reads") && tt.name != "no side effects", strings.Contains(text, "NO_SIDE_EFFECTS"))
			}
			require.Equal(t, tt.want, got)
			require.Contains(t, strings.Join(emitted, " "), tt.source)
		})
	}
}

// Topics below freshet/ are the server's own, so a table of that name has another word.
func TestPropose_reservedWord(t *testing.T) {
	fd := compile(t, `syntax = "proto3"; package shop.v1; message Freshet { int64 id = 1; } message Q { int64 id = 1; } service Shop { rpc GetFreshet(Q) returns (Freshet); }`)
	out := Propose([]protoreflect.FileDescriptor{fd}, []*Table{{Schema: "public", Name: "freshet", Key: []string{"id"}, Columns: columns("id int8")}})
	require.Len(t, out.Proposals, 2)
	require.Contains(t, out.Proposals[0].Options, `  topics: "freshets/{id}"`)
	require.Equal(t, "reads freshets/{id}", summary(strings.Join(out.Proposals[1].Options, " ")))
}

// summary is the options of a method in short: `reads topic topic`.
func summary(options string) string {
	for _, option := range []string{"reads", "writes"} {
		if _, rest, found := strings.Cut(options, "(freshet.v1."+option+")"); found {
			words := []string{option}
			for i, part := range strings.Split(rest, `"`) {
				if i%2 == 1 {
					words = append(words, part)
				}
			}
			return strings.Join(words, " ")
		}
	}
	return ""
}

// Options go where they belong, whatever the text is like; and what has some is left.
func TestApply(t *testing.T) {
	const before = `syntax = "proto3";
package shop.v1;
// A category.
message Category { string id = 1; }
message Empty {}
service Shop {
  // It is short.
  rpc GetCategory(Category) returns (Category); // behind
  rpc DropCategory(Category) returns (Empty) {}
  rpc ListCategories(Empty) returns (Category) {
    option deprecated = true;
  }
}
`
	fd := compile(t, before)
	after, err := Apply(fd, before, Propose([]protoreflect.FileDescriptor{fd}, shop).Proposals)
	require.NoError(t, err)
	require.Equal(t, `syntax = "proto3";
package shop.v1;

import "freshet/v1/options.proto";

// A category.
message Category {
  option (freshet.v1.source) = {
    table: "stock.categories"
    topics: "categories/{id}"
    topics: "categories"
  };

  string id = 1;
}
message Empty {}
service Shop {
  // It is short.
  rpc GetCategory(Category) returns (Category) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "categories/{id}"};
  } // behind
  rpc DropCategory(Category) returns (Empty) {
    option (freshet.v1.writes) = {topics: "categories/{id}"};
  }
  rpc ListCategories(Empty) returns (Category) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (freshet.v1.reads) = {topics: "categories"};
    option deprecated = true;
  }
}
`, after)
	require.Empty(t, Propose([]protoreflect.FileDescriptor{compile(t, after)}, shop).Proposals, "once more")
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"Task": "task", "TaskLabel": "task_label", "taskLabel": "task_label", "HTTPServer": "http_server", "UserID": "user_id", "Room_Id": "room_id", "_id": "_id", "shelf2Id": "shelf2_id",
		"orders": "orders", "Count Sheets": "count_sheets", "CountSheets": "count_sheets", `a "b" c`: "a_b_c", "Größe": "größe",
	} {
		require.Equal(t, want, snake(name))
	}
	for _, name := range []string{"result_id", "resultId", "ResultID", "Result Id", "resultid"} {
		require.True(t, same("result_id", name), name)
	}
	require.False(t, same("result_id", "result"))
	for noun, want := range map[string]string{"task": "tasks", "category": "categories", "day": "days", "box": "boxes", "status": "statuses", "branch": "branches"} {
		require.Equal(t, want, plural(noun))
	}
	require.Equal(t, "projects", collection("project_id"))
	require.Equal(t, "id", collection("id"))
	require.Equal(t, "_id", collection("_id"), "nothing is left of it")
}

// A method whose name begins like a read's may write all the same: as a read it would be
// sent twice, shared, and asked again by its own notice.
func TestIsRead(t *testing.T) {
	for name, want := range map[string]bool{
		"GetOrder": true, "ListOrdersAndItems": true, "FindOrders": true, "Get": true, "SearchAndRank": true, "CountOrders": true,
		"GetOrCreateCart": false, "FindOrCreate": false, "ListAndDeleteExpired": false, "ReadAndMarkMessage": false,
		"GetAndIncrementCounter": false, "GetThenSetState": false, "ListenToOrders": false, "Getaway": false, "PlaceOrder": false,
	} {
		fd := compile(t, `syntax = "proto3"; package shop.v1; message Q {} service Shop { rpc `+name+`(Q) returns (Q); }`)
		reads, why := isRead(fd.Services().Get(0).Methods().Get(0))
		require.Equal(t, want, reads, "%s: %s", name, why)
	}
}
