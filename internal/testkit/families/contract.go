package families

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	boardsv1 "github.com/freshet-dev/freshet/internal/testkit/boards/gen/boards/v1"
)

// reads is what the read depends on.
func (f *Family) reads() *freshetv1.Reads {
	reads := &freshetv1.Reads{Shared: true}
	for _, t := range f.tables {
		list := &reads.Topics
		field := func(c column) string { return "{" + c.field + "}" }
		if t.parent != nil {
			list = &reads.ResponseTopics
			field = func(c column) string { return "{" + t.parent.path + "." + c.field + "}" }
		}
		if topic := t.fill(field); !slices.Contains(*list, topic) {
			*list = append(*list, topic)
		}
	}
	return reads
}

// sources are the topics that a table's rows tell.
func (t *table) sources() []string {
	topics := []string{t.fill(func(c column) string { return "{" + c.name + "}" })}
	if t.parent != nil {
		topics = append(topics, t.fill(func(column) string { return "-" }))
	}
	return topics
}

// register makes the contract, as protoc would, and enters it where clients look.
func (f *Family) register() {
	messages := boardsv1.File_boards_v1_rows_proto
	options := &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}
	proto.SetExtension(options, freshetv1.E_Reads, f.reads())
	file := &descriptorpb.FileDescriptorProto{
		Name: new("families/" + f.name + ".proto"), Package: new("families." + f.name), Syntax: new("proto3"),
		Dependency: []string{messages.Path(), "freshet/v1/options.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("PlaceService"),
			Method: []*descriptorpb.MethodDescriptorProto{{
				Name: new("Look"), InputType: new(".boards.v1.LookRequest"), OutputType: new(".boards.v1.Row"), Options: options,
			}},
		}},
	}
	for i, t := range f.tables {
		options := new(descriptorpb.MessageOptions)
		proto.SetExtension(options, freshetv1.E_Source, &freshetv1.Source{Table: t.name, Topics: t.sources()})
		file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{Name: new(fmt.Sprint("Row", i)), Options: options})
	}
	built, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(built)
	}
	if err != nil {
		panic(err) // the name was another's
	}
	f.Service = built.Services().Get(0)
	f.Procedure = "/" + string(f.Service.FullName()) + "/Look"
}

// Files are the contract with all that it imports, for those who read descriptors.
func (f *Family) Files() *descriptorpb.FileDescriptorSet {
	set := new(descriptorpb.FileDescriptorSet)
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(f.Service.ParentFile())
	return set
}

func placeOf(c column, value string) Place {
	if c.field == "id" {
		return Place{ID: value}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		panic(err) // not reached: numbers are
	}
	return Place{Number: n}
}

// Request asks for all of a place.
func (p Place) Request() *boardsv1.LookRequest {
	return &boardsv1.LookRequest{Id: p.ID, Number: p.Number}
}
