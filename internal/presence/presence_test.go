package presence

import (
	"strings"
	"testing"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate" // its file is registered
	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// message returns the fields of a message of q.proto.
func message(t *testing.T, files map[string]string, name protoreflect.Name) protoreflect.FieldDescriptors {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(files)},
		protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
			return protocompile.SearchResult{Desc: fd}, err
		}),
	})}
	compiled, err := c.Compile(t.Context(), "q.proto")
	require.NoError(t, err)
	return compiled[0].Messages().ByName(name).Fields()
}

// behavior is google/api/field_behavior.proto, in short, and with its values packed, which
// they aren't there.
const behavior = `syntax = "proto3"; package google.api; import "google/protobuf/descriptor.proto";
enum FieldBehavior { FIELD_BEHAVIOR_UNSPECIFIED = 0; OPTIONAL = 1; REQUIRED = 2; IMMUTABLE = 5; }
extend google.protobuf.FieldOptions { repeated FieldBehavior field_behavior = 1052 [packed = true]; }`

func TestPresence(t *testing.T) {
	const imports = `import "google/api/field_behavior.proto"; import "buf/validate/validate.proto"; import "google/protobuf/wrappers.proto"; `
	for _, tt := range []struct {
		field    string
		required bool
		absence  Absence
	}{
		{"string f = 1;", false, Undeclared},
		{"string f = 1 [(google.api.field_behavior) = OPTIONAL];", false, Undeclared},
		{"string f = 1 [(google.api.field_behavior) = REQUIRED];", true, Undeclared},
		{"string f = 1 [(google.api.field_behavior) = IMMUTABLE, (google.api.field_behavior) = REQUIRED];", true, Undeclared},
		{"string f = 1 [(buf.validate.field).required = true];", true, Undeclared},
		{"string f = 1 [(buf.validate.field).required = false];", false, Undeclared},
		{"string f = 1 [(buf.validate.field).string.min_len = 1];", false, Undeclared},
		{"oneof of { string f = 1; }", false, Member},
		{"oneof of { string f = 1 [(buf.validate.field).required = true]; }", true, Undeclared},
		{"google.protobuf.StringValue f = 1;", false, Wrapped},
		{"google.protobuf.StringValue f = 1 [(buf.validate.field).required = true];", true, Undeclared},
		{"repeated google.protobuf.StringValue f = 1;", false, Undeclared},
		{"Q f = 1;", false, Undeclared},
		{"optional string f = 1;", false, Optional},
		{"optional string f = 1 [(buf.validate.field).string.min_len = 1];", false, Optional}, // it is looked at where there is one
		{"optional string f = 1 [(buf.validate.field).required = true];", true, Undeclared},
		{"optional string f = 1 [(google.api.field_behavior) = REQUIRED];", true, Undeclared},
	} {
		for _, packed := range []string{"true", "false"} {
			fd := message(t, map[string]string{
				"google/api/field_behavior.proto": strings.Replace(behavior, "packed = true", "packed = "+packed, 1),
				"q.proto":                         `syntax = "proto3"; ` + imports + "message Q {" + tt.field + "}",
			}, "Q").ByName("f")
			require.Equal(t, tt.required, IsRequired(fd), tt.field)
			require.Equal(t, tt.absence, AbsenceOf(fd), tt.field)
		}
	}
	fields := message(t, map[string]string{"q.proto": `syntax = "proto2"; message Q { optional string may = 1; required string must = 2; }`}, "Q")
	require.Equal(t, Undeclared, AbsenceOf(fields.ByName("may")), "it is on every field there")
	require.Equal(t, Undeclared, AbsenceOf(fields.ByName("must")))
}
