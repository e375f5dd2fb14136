package systemtest_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// Somebody behind a proxy sends bad tokens by every way in, as fast as they can: soon
// they aren't looked into any more. Who is known there goes on, and others notice
// nothing.
func (g *guarded) badTokensWithoutEnd(t *testing.T) {
	from := func(address, token string) http.Header { return with(bearer(token), "X-Forwarded-For", address) }
	const mallory, elsewhere = "203.0.113.7", "2001:db8::7"
	list := func(header http.Header) answer {
		return send(t, http.MethodPost, g.url+messagesv1connect.MessageServiceListConversationsProcedure, "{}", header)
	}
	adas := g.one.token(t, "ada")
	g.tokens = append(g.tokens, adas)
	require.Equal(t, http.StatusOK, list(from(mallory, adas)).status)
	stream := g.open(t, adas)

	forged := newKeys(t)
	forged.Kid = g.one.keys.Kid
	bad := from(mallory, sign(t, forged, g.one.name(), "mallory"))
	var flood errgroup.Group
	full := make(chan struct{})
	t.Cleanup(func() { require.NoError(t, flood.Wait()) })
	flooding, stop := context.WithTimeout(testkit.Context(t), time.Minute)
	defer stop()
	told := sync.OnceFunc(func() { close(full) })
	for range 4 {
		client := transport(t, false)
		flood.Go(func() error {
			for flooding.Err() == nil {
				req, err := http.NewRequestWithContext(flooding, http.MethodGet, g.url+"/events?topic=messages", nil)
				if err != nil {
					return err
				}
				req.Header = bad
				resp, err := client.Do(req)
				if err != nil {
					return nil //nolint:nilerr // it is over
				}
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusTooManyRequests {
					told()
				}
			}
			return nil
		})
	}
	select {
	case <-full:
	case <-flooding.Done():
		require.Fail(t, "bad tokens are looked into for ever")
	}
	refused := 0
	for range 1000 { // a few are looked into, fifty a second
		if got := list(bad); got.status == http.StatusTooManyRequests {
			refused++
			require.Equal(t, connect.CodeResourceExhausted, got.code)
		} else {
			require.Equal(t, http.StatusUnauthorized, got.status, got.text)
		}
		if refused == 3 {
			break
		}
	}
	require.Equal(t, 3, refused)
	for range 20 {
		require.Equal(t, http.StatusOK, list(from(mallory, adas)).status, "a token that is known")
		require.Equal(t, http.StatusOK, list(from(mallory, g.one.token(t, "ada", "jti", rand.Text()))).status, "a new one of somebody who is known")
		require.Equal(t, http.StatusOK, list(from(elsewhere, g.one.token(t, rand.Text()))).status, "another address")
	}
	require.Contains(t, g.metrics(t), `freshet_auth_refused_total{reason="too_many_failures"}`)
	require.Equal(t, http.StatusOK, send(t, http.MethodPost, g.url+messagesv1connect.MessageServiceCreateMessageProcedure,
		`{"parent":"conversations/auth","message":{"author":"ada","body":"still here"}}`, bearer(adas)).status)
	for event := range stream {
		if event == "invalidate" {
			return
		}
	}
	require.Fail(t, "the stream has ended")
}
