package systemtest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	messagesv1 "github.com/freshet-dev/freshet/gen/messages/v1"
	"github.com/freshet-dev/freshet/gen/messages/v1/messagesv1connect"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// The program by TLS, as an operator has it: `freshet watch` follows it by the
// system's trust, and stays while the certificate is renewed.
func TestTLS(t *testing.T) {
	pair := testkit.NewCertificate(t)
	binary := program(t)
	c := newChild(t, binary, testkit.Migrated(t), "tls", "--tls-cert", pair.CertFile, "--tls-key", pair.KeyFile)
	c.url = "https://" + strings.TrimPrefix(c.url, "http://")
	c.start(t)
	t.Cleanup(c.kill)

	watch := exec.CommandContext(testkit.Context(t), binary, "watch", "--url", c.url, "conversations/a/messages")
	watch.Env = append(os.Environ(), "SSL_CERT_FILE="+pair.CertFile, "NO_COLOR=1")
	out, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	t.Cleanup(func() {
		_ = watch.Process.Kill()
		_ = watch.Wait() // it was killed
	})
	lines := bufio.NewScanner(out)
	await := func(text string) {
		t.Helper()
		for lines.Scan() {
			t.Log("watch: " + lines.Text())
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		require.FailNow(t, "freshet watch ended before", "%s", text)
	}
	write := func() {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pair.Pool(t)}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		_, err := messagesv1connect.NewMessageServiceClient(&http.Client{Transport: transport}, c.url, connect.WithGRPC()).
			CreateMessage(testkit.Context(t), connect.NewRequest(&messagesv1.CreateMessageRequest{
				Parent: "conversations/a", Message: &messagesv1.Message{Author: "ada", Body: "hi"},
			}))
		require.NoError(t, err)
	}
	await("ready")
	write()
	await("conversations/a/messages")

	renewed := pair.Renew(t)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looks at it itself
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		return bytes.Equal(renewed, conn.ConnectionState().PeerCertificates[0].Raw)
	}, time.Minute, 10*time.Millisecond)
	write()
	await("conversations/a/messages")
}
