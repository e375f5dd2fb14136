package intercept

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
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
				r.handlers.get = func(ctx context.Context) (*messagesv1.GetMessageResponse, error) {
					require.Equal(t, freshet.Epoch(epoch), ctx.Value(callKey{}).(*store.Call).Epoch)
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
