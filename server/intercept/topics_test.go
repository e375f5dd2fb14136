package intercept

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// G2: an answer that spells a value otherwise than Postgres writes it has topics that
// nothing would ever be told of, and that no stream is opened of. It is the handler's
// fault: nobody is given the answer, and the log says which field it is. So it is of one
// that is kept, and of one that isn't.
func TestAnswer_otherSpellings(t *testing.T) {
	const within = "conversations/c/messages/"
	for _, uncached := range []bool{false, true} {
		r := newRig(t, func(c *Config) {
			program, err := contract.Compile(testkit.Declared(t, testkit.MessageService(), func(method string, reads *freshetv1.Reads) {
				if method == "GetMessage" {
					reads.ResponseTopics, reads.Uncached = []string{"{message.name=**}"}, uncached
				}
			}))
			require.NoError(t, err)
			rows, err := program.Sources()[0].Bind([]uint32{contract.TypeOID("text"), contract.TypeOID("uuid")})
			require.NoError(t, err)
			spelling := program.Spelling(rows)
			c.Contract, c.Spelling = program, func() *contract.Spelling { return spelling }
		})
		answer, asked := strings.ToUpper(strings.TrimPrefix(name, within)), 0
		r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
			asked++
			return &messagesv1.GetMessageResponse{Message: &messagesv1.Message{Name: within + answer}}, nil
		}
		for range 2 {
			_, err := r.client.GetMessage(t.Context(), getRequest(at(90).String()))
			requireCode(t, connect.CodeInternal, err)
			require.Equal(t, "internal: internal error", err.Error(), "what is stored is nobody's business")
			for _, header := range []string{HeaderRevision, HeaderTopics} {
				require.Empty(t, errorHeader(t, err, header), header)
			}
		}
		require.Equal(t, 2, asked, "it isn't kept")
		require.Contains(t, r.log.String(), `response topics \"{message.name=**}\": message.name: \"`+answer+`\" isn't how Postgres writes a uuid, and no change would ever be told of it: it writes \"`+strings.ToLower(answer)+`\"`)

		answer = strings.ToLower(answer)
		resp, err := r.client.GetMessage(t.Context(), getRequest(at(90).String()))
		require.NoError(t, err)
		require.Equal(t, within+answer, resp.Msg.GetMessage().GetName())
	}
}
