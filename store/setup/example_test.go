package setup_test

import (
	"context"
	"fmt"
	"log"

	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/store/setup"
)

// What `freshet doctor` prints, as a program of one's own sees it.
func ExampleCheck() {
	t, done := testkit.Example()
	defer done()
	url := testkit.Migrated(t) // the service's tables, and Freshet's by setup.Migrate
	ctx := context.Background()
	program, err := contract.Compile(messagesv1.File_messages_v1_messages_service_proto.Services().ByName("MessageService"))
	if err != nil {
		log.Print(err)
		return
	}
	conn, err := setup.Connect(ctx, url)
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()

	problems, err := setup.Check(ctx, conn, program, "freshet")
	if err != nil {
		log.Print(err) // the database could not be asked
		return
	}
	for _, p := range problems {
		fmt.Println(p.Text) // p.SQL mends it
	}
	// Apply runs as much of it as needs nobody.
	left, err := setup.Apply(ctx, conn, program, "freshet")
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("left:", len(left))
	// Output:
	// the publication "freshet" is missing: `freshet migrate up`, or the next node that starts, makes it and adds its tables, and nodes that run go on then
	// the publication "freshet" is to have the table "public"."messages"
	// left: 0
}
