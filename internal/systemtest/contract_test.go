package systemtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// secondProgram builds bin/freshet with another contract, once for all tests: messages
// tell their authors' topics, too, and there is one more table, which emits a topic that
// the first contract has as well.
func secondProgram(t testing.TB) string {
	t.Helper()
	binary, err := builtSecond()
	require.NoError(t, err)
	return binary
}

// secondTable is that table.
const secondTable = `create table reactions (id bigint generated always as identity primary key, conversation text not null)`

var builtSecond = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	overlay, err := secondContract()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(programDir, "freshet-2")
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", binary, "./cmd/freshet") //nolint:gosec // ours
	cmd.Dir = testkit.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// secondContract writes what protoc-gen-go would if messages.proto had these options,
// and returns the file that has go build take it. Options are nowhere but in the
// descriptor.
func secondContract() (overlay string, err error) {
	file := protodesc.ToFileDescriptorProto(messagesv1.File_messages_v1_messages_proto)
	for _, m := range file.GetMessageType() {
		if m.Options == nil {
			m.Options = new(descriptorpb.MessageOptions)
		}
		source, _ := proto.GetExtension(m.GetOptions(), freshetv1.E_Source).(*freshetv1.Source)
		switch m.GetName() {
		case "Message":
			source.Topics = append(source.Topics, "authors/{author}/messages")
		case "Conversation":
			source = &freshetv1.Source{Table: "reactions", Topics: []string{"messages", "conversations/{conversation}/reactions"}}
		}
		proto.SetExtension(m.GetOptions(), freshetv1.E_Source, source)
	}
	raw, err := proto.Marshal(file)
	if err != nil {
		return "", err
	}
	generated := filepath.Join(testkit.Root(), "gen/messages/v1/messages.pb.go")
	text, err := os.ReadFile(generated) //nolint:gosec // ours
	if err != nil {
		return "", err
	}
	descriptor := regexp.MustCompile(`(?m)^(const file_messages_v1_messages_proto_rawDesc =)( "" \+\n(?:\t".*"(?: \+)?\n)+)`)
	if !descriptor.Match(text) {
		return "", fmt.Errorf("%s has no descriptor where protoc-gen-go writes it", generated)
	}
	text = descriptor.ReplaceAllFunc(text, func([]byte) []byte {
		return []byte("const file_messages_v1_messages_proto_rawDesc = " + strconv.Quote(string(raw)) + "\n")
	})
	second := filepath.Join(programDir, "messages-2.pb.go")
	replaces, err := json.Marshal(map[string]any{"Replace": map[string]string{generated: second}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(programDir, "overlay.json")
	if err := os.WriteFile(second, text, 0o600); err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, replaces, 0o600)
}
