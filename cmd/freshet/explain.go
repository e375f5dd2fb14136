package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/grants"
)

type explainCmd struct {
	Procedure string `arg:"" help:"The method: its full name, or as much of the end of it as no other method has, as ListMessages."`
	Request   string `arg:"" default:"{}" help:"The request, in JSON; - for standard input."`
	Image     string `placeholder:"FILE" help:"A buf image (buf build -o image.binpb) that has the service. Unset: the service that this program was built with."`
	Grants    string `placeholder:"FILE" help:"Grants file: also say whether the caller may."`
	URL       string `placeholder:"URL" help:"A server that has the service: ask it, as the caller of --token, and say what the topics of its answer are. Reads only."`
	callerFlags

	known grants.Caller // what the flags say
}

// Help is printed by `freshet explain --help`.
func (*explainCmd) Help() string {
	return `Prints which topics a request has, which changes of which tables are told under them, and who shares the answer. Topics may take claims of the caller: --claims or --token says whose. An answer may have topics of its own: --url asks for one. With --grants it says as well whether a caller may, and exits with status 1 if not:

  freshet explain ListMessages '{"parent": "conversations/7"}'
  freshet explain --image image.binpb --grants grants.yaml --claims ada.json tasks.v1.TaskService/ListTasks '{"parent": "projects/7"}'
  freshet explain --image image.binpb --url http://127.0.0.1:8080 --token - GetBoard '{"board": "7"}' <token.txt`
}

// Run explains the request.
func (c *explainCmd) Run(ctx context.Context, to streams) error {
	described := services()
	if c.Image != "" {
		var err error
		if described, err = servicesOf(c.Image); err != nil {
			return err
		}
	}
	p, err := contract.Compile(described...)
	if err != nil {
		return err
	}
	m, desc, err := findMethod(p, described, c.Procedure)
	if err != nil {
		return err
	}
	request, err := c.request(desc.Input())
	if err != nil {
		return err
	}
	e := explanation{program: p, out: to.out}
	fmt.Fprintln(to.out, describe(m))
	if m, err = c.forCaller(m); err != nil {
		return err
	}
	topics, err := e.topics(ctx, c, m, desc, request)
	if err != nil || c.Grants == "" {
		return err
	}
	return c.granted(ctx, to.out, m, topics)
}

// granted says whether the caller may do what m does with the topics.
func (c *explainCmd) granted(ctx context.Context, out io.Writer, m *contract.Method, topics []string) error {
	set, err := readGrants(c.Grants)
	if err != nil {
		return err
	}
	who := &inquiry{set, c.known}
	actions := []grants.Action{grants.Write}
	if m.Kind == contract.Read {
		actions = []grants.Action{grants.Read, grants.Subscribe}
	}
	var denied error
	for _, action := range actions {
		switch err := who.explain(ctx, out, action, topics); {
		case errors.Is(err, errFindings):
			denied = err
		case err != nil:
			return err
		}
	}
	return denied
}

// describe says in one line what becomes of a method's calls.
func describe(m *contract.Method) string {
	what := m.Procedure[1:] + " "
	switch {
	case m.Kind == contract.Write:
		return what + "writes: its answer is stamped when its changes are told"
	case m.Uncached:
		return what + "reads; each call runs the handler"
	case m.Shared:
		return what + "reads; one answer serves all callers until one of its topics is told (shared)"
	default:
		return what + "reads; an answer serves calls of one issuer, subject and claims until one of its topics is told (not shared); where nobody asks who calls, each runs the handler"
	}
}

// request is the request, as a message of its type.
func (c *explainCmd) request(input protoreflect.MessageDescriptor) (proto.Message, error) {
	text := []byte(c.Request)
	if c.Request == "-" {
		var err error
		if text, err = readInput("-"); err != nil {
			return nil, err
		}
	}
	m := dynamicpb.NewMessage(input)
	if err := protojson.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("the request is no %s in JSON: %w", input.FullName(), err)
	}
	return m, nil
}

// findMethod finds the one method whose procedure ends in name.
func findMethod(p *contract.Program, described []protoreflect.ServiceDescriptor, name string) (*contract.Method, protoreflect.MethodDescriptor, error) {
	all := p.Methods()
	procedures := make([]string, len(all))
	found := -1
	for i, m := range all {
		procedures[i] = m.Procedure[1:]
		dotted := "." + strings.Replace(procedures[i], "/", ".", 1) // as lint and adopt name it
		if !strings.HasSuffix(dotted, "."+strings.Replace(name, "/", ".", 1)) {
			continue
		}
		if found >= 0 {
			return nil, nil, fmt.Errorf("%s and %s both end in %q: say more of it", procedures[found], procedures[i], name)
		}
		found = i
	}
	if found < 0 {
		slices.Sort(procedures)
		return nil, nil, fmt.Errorf("no method of the contract is named %q; there are:\n  %s", name, strings.Join(procedures, "\n  "))
	}
	service, method, _ := strings.Cut(procedures[found], "/")
	for _, sd := range described {
		if string(sd.FullName()) == service {
			return all[found], sd.Methods().ByName(protoreflect.Name(method)), nil
		}
	}
	return nil, nil, fmt.Errorf("%s is of no service that was handed in", procedures[found]) // not so: Compile has it from there
}
