//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/client"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
)

// notices hears what one client of thousands hears: the revisions at which the
// conversation has changed.
type notices struct {
	heard chan freshet.Revision
	ended chan error
	stop  context.CancelFunc
}

// listen returns once every later change will be told, and none that is over:
// a strong read first has the server catch up with what was written before.
func listen(ctx context.Context, url string) (*notices, error) {
	request := &messagesv1.ListMessagesRequest{Parent: "conversations/" + conversation}
	if _, err := messagesv1connect.NewMessageServiceClient(http.DefaultClient, url).ListMessages(ctx, connect.NewRequest(request)); err != nil {
		return nil, err
	}
	c, err := client.New(url)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	n := &notices{heard: make(chan freshet.Revision, 16), ended: make(chan error, 1), stop: stop}
	ready := make(chan struct{}, 1)
	go func() {
		n.ended <- c.Stream(ctx, []string{topic}, func(e client.Event) error {
			switch e := e.(type) {
			case client.Ready:
				ready <- struct{}{}
			case client.Invalidate:
				n.heard <- e.Revision
			case client.Disconnected:
				return fmt.Errorf("the stream was cut: %w", e.Err)
			case client.Reset:
				return errors.New("the epoch changed")
			}
			return nil
		}, client.WithThrottle(0))
	}()
	select {
	case <-ready:
		return n, nil
	case err := <-n.ended:
		stop()
		return nil, err
	case <-time.After(patience):
		stop()
		<-n.ended
		return nil, errors.New("the stream isn't ready")
	}
}

func (n *notices) close() error {
	n.stop()
	if err := <-n.ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// next is the revision of the next notice.
func (n *notices) next() (freshet.Revision, error) {
	select {
	case rev := <-n.heard:
		return rev, nil
	case err := <-n.ended:
		n.ended <- err // for close
		return freshet.Revision{}, fmt.Errorf("the stream ended: %w", err)
	case <-time.After(patience):
		return freshet.Revision{}, errors.New("a write wasn't told")
	}
}
