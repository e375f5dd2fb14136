package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server"
	"github.com/freshet-dev/freshet/server/intercept"
)

// BenchmarkPolicies is a strong read of 50 messages over HTTP: of nobody, whose
// statements run as they always did; of a caller whose claims the database is told;
// and of one whose role it takes too. In turns, as in store's BenchmarkSession.
func BenchmarkPolicies(b *testing.B) {
	database := testkit.Template(b, "benched", testkit.SetUp)
	testkit.Exec(b, database, `insert into messages (conversation, author, body) select 'one', 'ada', repeat('words ', 20) from generate_series(1, 50);
		do $$ begin if to_regrole('benched') is null then create role benched; end if; end $$; grant select on messages to benched; analyze messages`)
	know := func(r *http.Request) (server.Principal, error) { return benched, nil }
	nodes := []struct {
		name   string
		client messagesv1connect.MessageServiceClient
		took   []float64
	}{{name: "nobody"}, {name: "claims"}, {name: "role"}}
	for i := range nodes {
		cfg := server.Config{
			DatabaseURL: database, SkipMigrate: true, Slot: fmt.Sprintf("benched_%d", i), AuditReads: intercept.AuditOff,
			Services: []protoreflect.ServiceDescriptor{testkit.Unshared(b)},
		}
		if i > 0 {
			cfg.Authenticate = know
		}
		if i > 1 {
			cfg.DBRoleClaim = "role"
		}
		node := embed(b, cfg).live(b)
		nodes[i].client = messagesv1connect.NewMessageServiceClient(node.http, node.url)
	}
	for b.Loop() {
		for i := range nodes {
			began := time.Now()
			resp, err := nodes[i].client.ListMessages(b.Context(), connect.NewRequest(&messagesv1.ListMessagesRequest{Parent: "conversations/one", PageSize: 50}))
			nodes[i].took = append(nodes[i].took, float64(time.Since(began).Nanoseconds())/1000)
			require.NoError(b, err)
			require.Len(b, resp.Msg.GetMessages(), 50)
		}
	}
	for _, n := range nodes {
		slices.Sort(n.took)
		b.ReportMetric(n.took[len(n.took)/2], n.name+"-µs")
	}
	b.ReportMetric(0, "ns/op")
}

// benched is a caller with as many claims as a token has.
var benched = server.Principal{Issuer: "https://issuer.example.com/realms/one", Subject: "6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a", Claims: map[string]any{
	"aud": "freshet", "email": "ada@example.com", "exp": int64(1790000000), "iat": int64(1789996400), "iss": "https://issuer.example.com/realms/one",
	"scope": "openid messages.read messages.write", "sub": "6f1c8d0e-0d55-4c3e-9a3b-7f3f3d1c2b1a", "role": "benched",
}}.WithScope()
