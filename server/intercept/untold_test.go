package intercept

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/contract"
	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// A read that declares topics, by a request that has none, is answered; the log names
// its procedure once, and each is counted.
func TestUntold(t *testing.T) {
	const procedure = messagesv1connect.MessageServiceListConversationsProcedure
	for name, tt := range map[string]struct {
		tokens []string // of the pages, which the topics are made of
		reason string
	}{
		"empty field": {[]string{"", ""}, "an unset or empty field leaves the request without topics"},
		"no path":     {[]string{"conversations/", "conversations//7"}, "the request's topics can't be spelled"},
	} {
		for _, uncached := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				metrics := NewMetrics(prometheus.NewRegistry())
				r := newRig(t, func(c *Config) {
					p, err := contract.Compile(testkit.Declared(t, testkit.MessageService(), func(method string, reads *freshetv1.Reads) {
						if method == "ListConversations" {
							reads.Topics, reads.Uncached = []string{"{page_token=**}/messages"}, uncached
						}
					}))
					require.NoError(t, err)
					c.Contract, c.Metrics = p, metrics
				})
				counted := func() float64 {
					m := new(dto.Metric)
					require.NoError(t, metrics.untold.WithLabelValues(procedure).Write(m))
					return m.GetCounter().GetValue()
				}
				list := func(token string) {
					_, err := r.client.ListConversations(t.Context(), connect.NewRequest(&messagesv1.ListConversationsRequest{PageToken: token}))
					require.NoError(t, err)
				}
				list("conversations/7")
				require.NotContains(t, r.log.String(), "no topics")
				require.Zero(t, counted())
				for _, token := range tt.tokens {
					list(token)
				}
				require.EqualValues(t, 2, counted())
				require.Equal(t, 1, strings.Count(r.log.String(), "level=WARN"))
				require.Contains(t, r.log.String(), "procedure="+procedure)
				require.Contains(t, r.log.String(), `reason="`+tt.reason+`"`)
				require.Contains(t, r.log.String(), "docs/library.md, A request without topics")
			})
		}
	}
}
