package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/server/intercept"
)

// maxAnswer bounds what explain reads of an answer, and explainTimeout the time to it.
const (
	maxAnswer      = 64 << 20
	explainTimeout = 30 * time.Second
)

// forCaller is the method as the caller of the flags has it; as it is, where they name
// nobody.
func (c *explainCmd) forCaller(m *contract.Method) (*contract.Method, error) {
	var err error
	if c.known, err = c.caller(); err != nil || len(m.Claims()) == 0 || c.known.Claims == nil {
		return m, err
	}
	return m.For(c.known.Claims)
}

// explanation prints topics.
type explanation struct {
	program *contract.Program
	out     io.Writer
}

// topics prints the topics of a request and, if a server is to be asked, of its answer;
// and returns them.
func (e explanation) topics(ctx context.Context, c *explainCmd, m *contract.Method, desc protoreflect.MethodDescriptor, request proto.Message) ([]string, error) {
	var answer proto.Message
	if c.URL != "" {
		if m.Kind != contract.Read {
			return nil, errors.New("--url asks for an answer, and this method writes")
		}
		var err error
		if m, answer, err = c.answer(ctx, m, desc, request); err != nil {
			return nil, err
		}
	}
	unknown := len(m.Claims()) > 0 && m.Caller() == ""
	if len(m.Claims()) > 0 {
		fmt.Fprintf(e.out, "  topics take the caller's %s", strings.Join(m.Claims(), ", "))
		if unknown {
			fmt.Fprintf(e.out, ", which --claims or --token says: %s\n", strings.Join(m.Templates(), ", "))
		} else {
			fmt.Fprintf(e.out, ": %s\n", m.Caller())
		}
	}
	var asked []string
	if !unknown {
		var err error
		if asked, err = m.Topics(request); err != nil {
			return nil, err
		}
		if len(asked) == 0 {
			fmt.Fprintf(e.out, "  no topics: the fields that %s takes are unset, so nothing is known of what the answer depends on\n", strings.Join(m.Templates(), ", "))
		}
	}
	e.told(asked)
	for _, text := range m.ResponseTemplates() {
		fmt.Fprintf(e.out, "  and of the answer: %s\n", text)
	}
	switch {
	case !m.FromAnswer() || unknown:
		return asked, nil
	case answer == nil:
		fmt.Fprintln(e.out, "    (--url asks a server for one, and says its topics)")
		return asked, nil
	}
	all, err := m.AnswerTopics(request, answer)
	if err != nil {
		return nil, err
	}
	e.told(all[len(asked):])
	return all, nil
}

// told prints topics, and what tells each.
func (e explanation) told(topics []string) {
	for _, topic := range topics {
		fmt.Fprintf(e.out, "  %s\n", topic)
		told := false
		for _, emitted := range e.program.Emissions() {
			if emitted.Floor.Match(topic) {
				told = true
				fmt.Fprintf(e.out, "    told when a row of %s is written whose columns spell it: %s\n", emitted.Source, emitted.Template)
			}
		}
		for _, source := range e.program.Told() { // nobody looks at its rows
			if slices.ContainsFunc(source.Floors(), func(floor freshet.Pattern) bool { return floor.Match(topic) }) {
				told = true
				fmt.Fprintf(e.out, "    told by whoever changes %s, with pg_logical_emit_message in the same transaction: its source says `told: true`\n", source)
			}
		}
		if !told {
			fmt.Fprintln(e.out, "    no table tells it: is the request's path right?")
		}
	}
}

// answer asks the server, over Connect in JSON, and returns the method as the caller
// has it there.
func (c *explainCmd) answer(ctx context.Context, m *contract.Method, desc protoreflect.MethodDescriptor, request proto.Message) (*contract.Method, proto.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	body, err := protojson.Marshal(request)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+m.Procedure, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answered %s: %.400s", c.URL, resp.Status, text)
	}
	answer := dynamicpb.NewMessage(desc.Output())
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, answer); err != nil {
		return nil, nil, fmt.Errorf("%s answered no %s: %w", c.URL, desc.Output().FullName(), err)
	}
	m, err = m.ForCaller(resp.Header.Get(intercept.HeaderPrincipal))
	return m, answer, err
}
