package contract

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
)

// schema is all that some services and messages declare, parsed as far as it
// can be: what the rules check.
type schema struct {
	sources []*sourceDecl
	methods []*methodDecl
}

// element is one declaration of a schema, and where it stands.
type element struct {
	on protoreflect.Descriptor
	at protoreflect.SourcePath // of its options, within the file
	// unknown are the numbers of options and option fields that this version
	// does not know.
	unknown []protowire.Number
}

// sourceDecl is a message with the option (freshet.v1.source).
type sourceDecl struct {
	element
	option        *freshetv1.Source // nil: only unknown options
	schema, table string            // set by splitTable; empty if malformed
	templates     []*templateDecl
}

// methodDecl is a method of a service of the contract.
type methodDecl struct {
	element
	desc      protoreflect.MethodDescriptor
	reads     *freshetv1.Reads
	writes    *freshetv1.Writes
	templates []*templateDecl
}

// templateDecl is one template of a declaration.
type templateDecl struct {
	option string // source, reads, response_topics, writes
	text   string
	at     protoreflect.SourcePath // within the file
	parsed *template               // nil: see err
	err    error                   // a *SyntaxError
}

// responseTopics is the field of Reads with the templates over the response.
const responseTopics = "response_topics"

// message returns the message whose fields a template of the method takes.
func (d *methodDecl) message(t *templateDecl) protoreflect.MessageDescriptor {
	if t.option == responseTopics {
		return d.desc.Output()
	}
	return d.desc.Input()
}

// The numbers of freshet.v1's extensions, and of the options within their
// descriptors, for source paths.
const (
	firstExtension, lastExtension = 50500, 50509

	messageOptions = 7 // DescriptorProto.options
	methodOptions  = 4 // MethodDescriptorProto.options
)

// collect gathers the methods of the services and the sources of the files,
// of the services' files and of all that they import.
func collect(services []protoreflect.ServiceDescriptor, files []protoreflect.FileDescriptor) *schema {
	s := new(schema)
	seen := make(map[protoreflect.FullName]bool)
	for _, sd := range services {
		if seen[sd.FullName()] {
			continue
		}
		seen[sd.FullName()] = true
		for i := range sd.Methods().Len() {
			s.addMethod(sd.Methods().Get(i))
		}
	}
	visited := make(map[string]bool)
	for _, sd := range services {
		s.addFile(sd.ParentFile(), visited)
	}
	for _, fd := range files {
		s.addFile(fd, visited)
	}
	return s
}

func (s *schema) addFile(fd protoreflect.FileDescriptor, visited map[string]bool) {
	if visited[fd.Path()] || fd.IsPlaceholder() {
		return
	}
	visited[fd.Path()] = true
	s.addMessages(fd.Messages())
	for i := range fd.Imports().Len() {
		s.addFile(fd.Imports().Get(i).FileDescriptor, visited)
	}
}

func (s *schema) addMessages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		s.addSource(messages.Get(i))
		s.addMessages(messages.Get(i).Messages())
	}
}

func (s *schema) addSource(md protoreflect.MessageDescriptor) {
	options := new(descriptorpb.MessageOptions)
	reread(md.Options(), options)
	d := &sourceDecl{element: newElement(md, messageOptions, options)}
	if proto.HasExtension(options, freshetv1.E_Source) {
		d.option = proto.GetExtension(options, freshetv1.E_Source).(*freshetv1.Source)
		d.addUnknown(d.option)
		d.schema, d.table, _ = splitTable(d.option.GetTable())
		d.templates = d.parse(freshetv1.E_Source, "topics", d.option.GetTopics())
	}
	if d.option != nil || d.unknown != nil {
		s.sources = append(s.sources, d)
	}
}

func (s *schema) addMethod(md protoreflect.MethodDescriptor) {
	options := new(descriptorpb.MethodOptions)
	reread(md.Options(), options)
	d := &methodDecl{element: newElement(md, methodOptions, options), desc: md}
	if proto.HasExtension(options, freshetv1.E_Reads) {
		d.reads = proto.GetExtension(options, freshetv1.E_Reads).(*freshetv1.Reads)
		d.addUnknown(d.reads)
		d.templates = append(d.templates, d.parse(freshetv1.E_Reads, "topics", d.reads.GetTopics())...)
		d.templates = append(d.templates, d.parse(freshetv1.E_Reads, responseTopics, d.reads.GetResponseTopics())...)
	}
	if proto.HasExtension(options, freshetv1.E_Writes) {
		d.writes = proto.GetExtension(options, freshetv1.E_Writes).(*freshetv1.Writes)
		d.addUnknown(d.writes)
		d.templates = append(d.templates, d.parse(freshetv1.E_Writes, "topics", d.writes.GetTopics())...)
	}
	s.methods = append(s.methods, d)
}

// The paths of the options themselves.
func (d *sourceDecl) atOption() protoreflect.SourcePath { return d.extension(freshetv1.E_Source) }
func (d *methodDecl) atReads() protoreflect.SourcePath  { return d.extension(freshetv1.E_Reads) }
func (d *methodDecl) atWrites() protoreflect.SourcePath { return d.extension(freshetv1.E_Writes) }

// eachTemplate visits all templates, those of one element one after the other.
func (s *schema) eachTemplate(visit func(*element, *templateDecl)) {
	for _, d := range s.sources {
		for _, t := range d.templates {
			visit(&d.element, t)
		}
	}
	for _, d := range s.methods {
		for _, t := range d.templates {
			visit(&d.element, t)
		}
	}
}

// eachField visits the fields in all templates over requests and responses, each
// with what resolveField says of it.
func (s *schema) eachField(visit func(d *methodDecl, t *templateDecl, seg segment, f *field, missing bool, reason string)) {
	for _, d := range s.methods {
		for _, t := range d.templates {
			if t.parsed == nil {
				continue
			}
			for _, seg := range t.parsed.segments {
				if seg.isLiteral() {
					continue
				}
				f, missing, reason := resolveField(d.message(t), t.parsed.fields[seg.field])
				visit(d, t, seg, f, missing, reason)
			}
		}
	}
}
