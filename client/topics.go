package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/freshet-dev/freshet/contract"
)

// QueryError says why a call can't be a [Query]: the program has no such
// method, the method doesn't say what it reads, or the request names none of it.
type QueryError struct {
	// Name is the full protobuf name of the method; of the request, if no method
	// was found; or the request's Go type, if that is no protobuf message.
	Name string
	// Err is what is wrong, and often what would be right. From a method's
	// options it joins *[contract.Problem], from the request's values it is a
	// *[contract.RequestError].
	Err error
}

func (e *QueryError) Error() string { return "query " + e.Name + ": " + e.Err.Error() }
func (e *QueryError) Unwrap() error { return e.Err }

// topicsOf returns the topics of a request whose answer is of type res, and the
// method, which knows those of its answers. There is at least one topic, unless the
// method takes claims of the caller, which only an answer tells; every error is a
// *QueryError.
func topicsOf(req, res any, procedure string) ([]string, *contract.Method, error) {
	in, ok := req.(proto.Message)
	out, alsoOK := res.(proto.Message)
	if !ok || !alsoOK {
		return nil, nil, &QueryError{Name: fmt.Sprintf("%T", req), Err: fmt.Errorf("it, or its answer %T, is no protobuf message", res)}
	}
	if !in.ProtoReflect().IsValid() {
		return nil, nil, &QueryError{Name: string(in.ProtoReflect().Descriptor().FullName()), Err: errors.New("the request is nil")}
	}
	md, err := findMethod(in.ProtoReflect().Descriptor(), out.ProtoReflect().Descriptor(), procedure)
	if err != nil {
		return nil, nil, &QueryError{Name: string(in.ProtoReflect().Descriptor().FullName()), Err: err}
	}
	method, err := contract.CompileMethod(md)
	if err != nil {
		return nil, nil, &QueryError{Name: string(md.FullName()), Err: err}
	}
	if method.Kind != contract.Read {
		return nil, nil, &QueryError{Name: string(md.FullName()), Err: errors.New(
			"it declares (freshet.v1.writes), and a query reads; call it as it is, and give its stamp to Wrote")}
	}
	if len(method.Claims()) > 0 {
		return nil, method, nil
	}
	topics, err := method.Topics(in)
	if err == nil && len(topics) == 0 {
		err = errNoTopics(method)
	}
	if err != nil {
		return nil, nil, &QueryError{Name: string(md.FullName()), Err: err}
	}
	return topics, method, nil
}

func errNoTopics(m *contract.Method) error {
	return fmt.Errorf("an unset or empty field leaves the request without topics; set those of %s", strings.Join(m.Templates(), ", "))
}

// findMethod finds the method of a call among all whose generated code is in
// the program. Messages tell it apart, since a method should have a request of
// its own; where several share one, its procedure does.
func findMethod(in, out protoreflect.MessageDescriptor, procedure string) (protoreflect.MethodDescriptor, error) {
	var found []protoreflect.MethodDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			methods := fd.Services().Get(i).Methods()
			for j := range methods.Len() {
				md := methods.Get(j)
				if md.Input() == in && md.Output() == out && (procedure == "" || procedure == procedureOf(md)) {
					found = append(found, md)
				}
			}
		}
		return true
	})
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		names := make([]string, len(found))
		for i, md := range found {
			names[i] = procedureOf(md)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("%s take it; name one by WithProcedure", strings.Join(names, " and "))
	case procedure != "":
		return nil, fmt.Errorf("WithProcedure: no %s takes it and answers with %s; procedures are spelled /package.Service/Method",
			procedure, out.FullName())
	default:
		return nil, fmt.Errorf("no method takes it and answers with %s; import the generated package of its service", out.FullName())
	}
}

// procedureOf spells a method as Connect's generated constants do.
func procedureOf(md protoreflect.MethodDescriptor) string {
	return "/" + string(md.Parent().FullName()) + "/" + string(md.Name())
}
