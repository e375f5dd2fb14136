package contract_test

import (
	"fmt"
	"os"

	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
)

// The contract of a service stands in its proto, and comes with its generated
// code: which tables emit topics, and which topics a method reads or writes.
func ExampleCompile() {
	program, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	if err != nil {
		fmt.Println(err) // all that is wrong, a line each
		return
	}
	for _, source := range program.Sources() {
		fmt.Println(source, source.Columns())
	}
	list := program.Method("/messages.v1.MessageService/ListMessages")
	topics, err := list.Topics(&messagesv1.ListMessagesRequest{Parent: "conversations/7"})
	fmt.Println(list.Kind, topics, err)
	// Output:
	// public.messages [conversation id]
	// reads [conversations/7/messages] <nil>
}

// A client needs one method, and not the tables.
func ExampleCompileMethod() {
	methods := messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService").Methods()
	get, err := contract.CompileMethod(methods.ByName("GetMessage"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(get.Topics(&messagesv1.GetMessageRequest{Name: "conversations/7/messages/1"}))
	fmt.Println(get.Topics(&messagesv1.GetMessageRequest{}))
	// Output:
	// [conversations/7/messages/1] <nil>
	// [] <nil>
}

// The way of a row to its topics, as the text that Postgres writes.
func ExampleSource_Bind() {
	program, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	if err != nil {
		fmt.Println(err)
		return
	}
	const text, uuid = 25, 2950 // type OIDs
	rows, err := program.Source("public", "messages").Bind([]uint32{text, uuid})
	if err != nil {
		fmt.Println(err)
		return
	}
	row := []string{"7", "0198c2de-0000-7000-8000-000000000001"}
	topics, floors := rows.AppendTopics(nil, func(i int) ([]byte, bool) { return []byte(row[i]), true })
	for _, topic := range topics {
		fmt.Println(topic)
	}
	fmt.Println(len(floors), "that can't be spelled")
	// Output:
	// messages
	// conversations/-/messages
	// conversations/7/messages
	// conversations/7/messages/0198c2de-0000-7000-8000-000000000001
	// 0 that can't be spelled
}

// What `freshet lint` does: an image is what `buf build -o image.binpb` writes.
func ExampleLint() {
	image, err := os.ReadFile("testdata/image.binpb")
	if err != nil {
		fmt.Println(err)
		return
	}
	findings, err := contract.Lint(image)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(findings), "findings")
	fmt.Printf("%s:%d: %s\n", findings[0].File, findings[0].Line, findings[0].Rule)
	// Output:
	// 5 findings
	// test/v1/bad.proto:49: field-exists
}
