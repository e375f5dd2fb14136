package intercept

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/contract"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/store"
)

// G6: the stamp is a frontier from before the handler, on success and error;
// also of a read that no flight has stamped, since nobody may share it.
func TestStamp_isReadBeforeTheHandler(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"shared": nil,
		"uncached": func(c *Config) {
			c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Uncached = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, options ...connect.ClientOption) {
				r := newRig(t, change, options...)
				var fail error
				next := uint64(101)
				r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
					r.hub.Advance(at(next)) // too late for this answer
					next++
					return new(messagesv1.GetMessageResponse), fail
				}
				stamp, err := r.get(t)
				require.NoError(t, err)
				require.Equal(t, at(100).String(), stamp)

				fail = connect.NewError(connect.CodeNotFound, errors.New("gone"))
				stamp, err = r.get(t)
				requireCode(t, connect.CodeNotFound, err)
				require.Equal(t, at(101).String(), stamp)
			})
		})
	}
}

// The store is told the stamp's epoch, whether or not others may share the query.
func TestRead_tellsTheStoreItsEpoch(t *testing.T) {
	node := hub.New(hub.Config{})
	node.Begin(at(50))
	node.Serve(at(100))
	cfg := Config{Contract: messageService(), Hub: node}.withDefaults()
	var told []*store.Call
	h := read(cfg.reads(), cfg.Spelling, newAudit(&cfg), &writing{logger: cfg.Logger})(func(_ context.Context, _ connect.AnyRequest, call *store.Call) (connect.AnyResponse, error) {
		told = append(told, call)
		return connect.NewResponse(new(messagesv1.GetMessageResponse)), nil
	})
	method := cfg.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure)
	for _, m := range []*contract.Method{method, nil} {
		c := &call{req: getRequest(), procedure: method.Procedure, method: m}
		_, err := h(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, at(100), c.reply.stamp)
		require.Equal(t, freshet.Epoch(epoch), told[len(told)-1].Epoch)
	}
	require.Len(t, told, 2)
}

// F24: no answer crosses principals unless its method says that it may.
func TestRead_F24_scope(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Shared = shared
			})
			from := func(user string) string {
				req := getRequest(at(100).String())
				req.Header().Set("Test-User", user)
				resp, err := r.client.GetMessage(t.Context(), req)
				require.NoError(t, err)
				return resp.Header().Get(HeaderCache)
			}
			require.Equal(t, "miss", from("ada"))
			require.Equal(t, shared, from("bob") == "hit")
			require.Equal(t, "hit", from("ada"))
		})
	}
}

// F24: a query that is everybody's knows nobody: not even the one who asked first.
func TestRead_F24_sharedKnowsNobody(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Shared = shared
			})
			var who Principal
			var known, everybodys bool
			r.handlers.get = func(ctx context.Context) (*messagesv1.GetMessageResponse, error) {
				who, known = Known(ctx)
				everybodys = IsEverybodys(ctx)
				require.Equal(t, who, PrincipalOf(ctx))
				return new(messagesv1.GetMessageResponse), nil
			}
			req := getRequest(at(100).String())
			req.Header().Set("Test-User", "ada")
			_, err := r.client.GetMessage(t.Context(), req)
			require.NoError(t, err)
			require.Equal(t, !shared, known)
			require.Equal(t, shared, everybodys)
			require.Equal(t, !shared, who.Subject == "ada")
		})
	}
}

// The frontier is lost between at-least's look at it and the query's: nothing says
// that the answer reaches what was asked for.
func TestRead_frontierLost(t *testing.T) {
	for name, tt := range map[string]struct{ uncached, gone bool }{
		"shared": {}, "uncached": {uncached: true}, "not found": {gone: true}, "uncached, not found": {uncached: true, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Contract.Method(messagesv1connect.MessageServiceGetMessageProcedure).Uncached = tt.uncached
				c.Hub = &forgetful{Hub: c.Hub}
			})
			if tt.gone {
				r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
					return nil, connect.NewError(connect.CodeNotFound, errors.New("gone"))
				}
			}
			stamp, err := r.get(t, at(100).String())
			requireCode(t, connect.CodeUnavailable, err)
			require.Contains(t, err.Error(), "not caught up")
			require.Empty(t, stamp)
		})
	}
}

// forgetful loses its frontier when it has been asked for it once.
type forgetful struct {
	Hub
	asked atomic.Bool
}

func (f *forgetful) Frontier() freshet.Revision {
	if f.asked.Swap(true) {
		return freshet.Revision{}
	}
	return f.Hub.Frontier()
}

func TestStamp_notOnTheDataOfAnotherEpoch(t *testing.T) {
	r := newRig(t, nil)
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) {
		return nil, fmt.Errorf("get message: %w", store.ErrEpoch)
	}
	stamp, err := r.get(t)
	requireCode(t, connect.CodeUnavailable, err)
	require.Empty(t, stamp)
}

func TestStamp_oneErrorForManyCallsIsNotShared(t *testing.T) {
	r := newRig(t, nil)
	shared := connect.NewError(connect.CodeNotFound, errors.New("gone"))
	r.handlers.get = func(context.Context) (*messagesv1.GetMessageResponse, error) { return nil, shared }
	_, err := r.get(t)
	requireCode(t, connect.CodeNotFound, err)
	require.Empty(t, shared.Meta(), "a header set on the handler's own error would reach other calls")
}
