package relay

import (
	"io"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// Once a server has said that credentials have expired, that is the reason until it is
// another one: what it says afterwards, or that it hangs up, says less.
func TestRelay_refusedAfterExpiry(t *testing.T) {
	t.Parallel()
	r := &Relay{log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		err  error
		want Fault
	}{
		{io.EOF, ""},
		{nats.ErrAuthExpired, FaultExpired},
		{nats.ErrAuthorization, FaultExpired},
		{io.EOF, FaultExpired},
		{nats.ErrNoServers, FaultUnreachable},
		{nats.ErrAuthorization, FaultCredentials},
	} {
		r.refused(t.Context(), tt.err)
		require.Equal(t, tt.want, r.refusal.Load().Fault, tt.err)
	}
}
