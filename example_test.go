package freshet_test

import (
	"errors"
	"fmt"

	"github.com/freshet-dev/freshet"
)

// Revisions are kept and compared, never made up: a client keeps the latest one
// that it was told, as the text that it was told.
func ExampleParseRevision() {
	told, err := freshet.ParseRevision("0000000a-00000000000000ff")
	if err != nil {
		fmt.Println(err)
		return
	}
	held, _ := freshet.ParseRevision("0000000a-0000000000000042")
	fmt.Println(held.Less(told), held.Max(told))

	_, err = freshet.ParseRevision("255")
	var malformed *freshet.RevisionError
	fmt.Println(errors.As(err, &malformed))
	// Output:
	// true 0000000a-00000000000000ff
	// true
}

func ExampleCheckTopic() {
	fmt.Println(freshet.CheckTopic("conversations/7/messages"))
	fmt.Println(freshet.CheckTopic("conversations/7\n"))
	// Output:
	// <nil>
	// "conversations/7\n" is not a topic: it contains a control character
}

// A pattern stands for topics that nobody can list: * is one segment, a last **
// is one or more.
func ExamplePattern_Match() {
	all := freshet.Pattern("conversations/*/messages")
	fmt.Println(all.Match("conversations/7/messages"), all.Match("conversations/7/messages/1"))
	// Output: true false
}
