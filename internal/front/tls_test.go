package front_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	freshetv1 "github.com/freshet-dev/freshet/gen/freshet/v1"
	"github.com/freshet-dev/freshet/gen/freshet/v1/freshetv1connect"
	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/internal/testkit/live"
)

// patience is how long a test waits.
const patience = time.Minute

// startTLS starts a server with a certificate.
func startTLS(t *testing.T, change func(*live.Config)) (*running, testkit.Certificate) {
	t.Helper()
	pair := testkit.NewCertificate(t)
	r := start(t, func(c *live.Config) {
		c.Front.TLSCert, c.Front.TLSKey = pair.CertFile, pair.KeyFile
		c.Front.Hosts = []string{"app.example.com"}
		if change != nil {
			change(c)
		}
		c.Front.Insecure = !c.Front.Authenticated
	})
	require.True(t, strings.HasPrefix(r.URL, "https://"), r.URL)
	return r, pair
}

// trusting is a client of HTTP/1.1 or HTTP/2 that trusts a pair as it is now.
func trusting(t *testing.T, pair testkit.Certificate, h2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: pair.Pool(t)}}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetHTTP2(h2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestRun_tls(t *testing.T) {
	r, pair := startTLS(t, nil)
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", h2), func(t *testing.T) {
			c := trusting(t, pair, h2)
			resp, err := c.Get(r.URL + "/events?topic=messages")
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			require.Equal(t, h2, resp.ProtoMajor == 2)
			require.Empty(t, resp.Header.Get("Strict-Transport-Security"), "of a name that every machine has")
			lines := bufio.NewScanner(resp.Body)
			await := func(text string) {
				t.Helper()
				for lines.Scan() {
					if lines.Text() == text {
						return
					}
				}
				require.FailNow(t, "the stream ended", "%v", lines.Err())
			}
			await("event: ready")
			for _, options := range [][]connect.ClientOption{nil, {connect.WithHTTPGet()}, {connect.WithGRPCWeb()}} {
				service := messagesv1connect.NewMessageServiceClient(c, r.URL, options...)
				_, err = service.CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
					Parent: "conversations/a", Message: &messagesv1.Message{Author: "ada", Body: "hi"},
				}))
				require.NoError(t, err)
				await("event: invalidate")
			}
			req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.URL+"/", nil)
			require.NoError(t, err)
			req.Host = "app.example.com"
			named, err := c.Do(req)
			require.NoError(t, err)
			require.NoError(t, named.Body.Close())
			require.Equal(t, "max-age=31536000", named.Header.Get("Strict-Transport-Security"))
		})
	}
	watch, err := freshetv1connect.NewInvalidationServiceClient(trusting(t, pair, true), r.URL, connect.WithGRPC()).
		Watch(r.ctx, connect.NewRequest(&freshetv1.WatchRequest{Topics: []string{"messages"}}))
	require.NoError(t, err)
	require.True(t, watch.Receive(), "%v", watch.Err())
	require.NoError(t, watch.Close())

	resp, err := new(http.Client).Get("http://" + strings.TrimPrefix(r.URL, "https://") + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode, "without TLS")
	_, err = tls.Dial("tcp", strings.TrimPrefix(r.URL, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}) //nolint:gosec // that it is refused
	require.Error(t, err, "TLS 1.1")
}

// Connections keep the certificate that they began with; new ones get what is in
// the files, unless that can't be used.
func TestRun_certificateIsRenewed(t *testing.T) {
	log := new(testkit.Buffer)
	r, pair := startTLS(t, func(c *live.Config) {
		c.Front.Logger = slog.New(slog.NewTextHandler(log, nil))
		c.Front.AdminAddr = live.FreeAddr(t)
	})
	shown := func() []byte {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(r.URL, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looks at it itself
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	resp, err := trusting(t, pair, false).Get(r.URL + "/events?topic=messages")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	frames := bufio.NewReader(resp.Body)

	before := shown()
	after := pair.Renew(t)
	require.NotEqual(t, before, after)
	require.Eventually(t, func() bool { return bytes.Equal(after, shown()) }, patience, 10*time.Millisecond)

	require.NoError(t, os.WriteFile(pair.KeyFile, []byte("half a k"), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "the one of before is kept") }, patience, 10*time.Millisecond)
	require.Equal(t, after, shown())
	other := testkit.NewCertificate(t)
	foreign, err := os.ReadFile(other.KeyFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(pair.KeyFile, foreign, 0o600))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "does not match") }, patience, 10*time.Millisecond)
	require.Equal(t, after, shown())
	require.NotContains(t, log.String(), "half a k")

	last := pair.Renew(t)
	require.Eventually(t, func() bool { return bytes.Equal(last, shown()) }, patience, 10*time.Millisecond)
	_, err = messagesv1connect.NewMessageServiceClient(trusting(t, pair, true), r.URL).CreateMessage(r.ctx, connect.NewRequest(&messagesv1.CreateMessageRequest{
		Parent: "conversations/a", Message: &messagesv1.Message{Author: "ada", Body: "hi"},
	}))
	require.NoError(t, err)
	for line := ""; line != "event: invalidate\n"; { // the stream has been open all the time
		line, err = frames.ReadString('\n')
		require.NoError(t, err)
	}
}

// Who doesn't get on with the handshake is cut, as whoever doesn't get on with a
// request.
func TestRun_F62_handshakesThatDoNotCome(t *testing.T) {
	r, _ := startTLS(t, func(c *live.Config) { c.Front.ReadTimeout = 200 * time.Millisecond })
	for _, text := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "https://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		_, err = io.ReadAll(conn)
		require.NoError(t, err, "it ends")
		require.NoError(t, conn.Close())
	}
}

func TestNew_F81_certificate(t *testing.T) {
	pair, other := testkit.NewCertificate(t), testkit.NewCertificate(t)
	for _, tt := range []struct{ cert, key, want string }{
		{pair.CertFile, "", "--tls-cert and --tls-key: want both, or neither"},
		{"", pair.KeyFile, "--tls-cert and --tls-key: want both, or neither"},
		{pair.CertFile, "/nowhere", "--tls-key /nowhere: stat /nowhere: no such file"},
		{pair.KeyFile, pair.KeyFile, "--tls-cert " + pair.KeyFile},
		{pair.CertFile, other.KeyFile, "does not match"},
	} {
		_, err := front.New(front.Config{TLSCert: tt.cert, TLSKey: tt.key})
		require.ErrorContains(t, err, tt.want)
	}
	f, err := front.New(front.Config{TLSCert: pair.CertFile, TLSKey: pair.KeyFile, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, f.ReloadCertificate(context.Background()))
	require.NoError(t, os.Remove(pair.KeyFile))
	require.ErrorContains(t, f.ReloadCertificate(context.Background()), "no such file")
	require.Positive(t, metric(t, f, "freshet_tls_certificate_expiry_timestamp_seconds")-float64(time.Now().Unix()))
	require.InDelta(t, 1, metric(t, f, "freshet_tls_certificate_stale"), 0)
}

func metric(t *testing.T, f *front.Front, name string) float64 {
	t.Helper()
	families, err := f.Registry().Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.FailNow(t, "there is no such metric", name)
	return 0
}
