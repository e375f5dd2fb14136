package testkit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/freeport"
)

// WebProxies are the HTTP proxies that NewWebProxy can start.
var WebProxies = []string{"nginx", "haproxy", "caddy"}

// NewWebProxy starts a real proxy with a configuration of the user's, in which
// 127.0.0.1:8000 and 127.0.0.1:8001 are where it listens and 127.0.0.1:8080 is the
// server at upstream. For nginx it is what stands in the http block. It returns
// once the first address answers, and ends with the test. Without the program the
// test fails where CI is set, and is reported as not run elsewhere.
func NewWebProxy(t testing.TB, name, upstream, config string) (first, second string) {
	t.Helper()
	first, second = FreeAddr(t, "127.0.0.1"), FreeAddr(t, "127.0.0.1")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	runWebProxy(t, name, strings.NewReplacer("127.0.0.1:8000", first, "127.0.0.1:8001", second, "127.0.0.1:8080", upstream).Replace(config), transport, "http://"+first)
	return first, second
}

// PublicName is the name that proxies with TLS have, and those who ask them give.
const PublicName = "app.example.com"

// NewTLSProxy starts a proxy with the configuration that is in deploy/proxy, before
// the server at upstream. etc stands for /etc in it; without a certificate in
// etc/freshet, one for PublicName is written there, which vouches for itself. It is as
// NewWebProxy otherwise.
func NewTLSProxy(t testing.TB, name, upstream, etc string) (addr string, roots *x509.CertPool) {
	t.Helper()
	file := map[string]string{"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}[name]
	text, err := os.ReadFile(filepath.Join(Root(), "deploy/proxy", file)) //nolint:gosec // ours
	require.NoError(t, err)
	roots = certificate(t, filepath.Join(etc, "freshet"))
	addr = FreeAddr(t, "127.0.0.1")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	config := strings.NewReplacer(
		"/etc/", etc+"/",
		"127.0.0.1:8080", upstream,
		"listen 443 ", "listen "+addr+" ",
		"bind :443 ", "bind "+addr+" ",
		"admin off\n", "admin off\n\tauto_https disable_redirects\n", // port 80 isn't ours
		PublicName+" {", PublicName+":"+port+" {",
	).Replace(string(text))
	if more, err := filepath.Glob(filepath.Join(etc, name, "conf.d/*.conf")); err == nil {
		for _, file := range more { // as Debian's nginx.conf does
			config = "include " + file + ";\n" + config
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: PublicName, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	runWebProxy(t, name, config, transport, "https://"+net.JoinHostPort(PublicName, port))
	return addr, roots
}

// certificate returns the certificate in dir that vouches for itself; without one, it
// writes it, and its key.
func certificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if given, err := os.ReadFile(filepath.Join(dir, "tls.crt")); err == nil { //nolint:gosec // the test's
		require.True(t, roots.AppendCertsFromPEM(given))
		return roots
	}
	require.NoError(t, os.MkdirAll(dir, 0o755)) //nolint:gosec // read by another user
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{PublicName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for name, text := range map[string][]byte{"tls.crt": public, "tls.key": private, "tls.pem": append(public, private...)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644)) //nolint:gosec // a test's, read by another user
	}
	require.True(t, roots.AppendCertsFromPEM(public))
	return roots
}

// FreeAddr is an address of host at which nobody listens.
func FreeAddr(t testing.TB, host string) string {
	t.Helper()
	addrs, err := freeport.Addrs(host, 1)
	require.NoError(t, err)
	return addrs[0]
}

// runWebProxy starts a proxy, and returns once it answers at url.
func runWebProxy(t testing.TB, name, config string, transport *http.Transport, url string) {
	t.Helper()
	path, err := osexec.LookPath(name)
	if err != nil {
		path, err = osexec.LookPath("/usr/sbin/" + name)
	}
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("NOT RUN: there is no %s; `make deps` installs it", name)
	}
	require.NoError(t, err, "`make deps` installs %s", name)

	dir, err := os.MkdirTemp("", name+"-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // its workers run as another user
	file := filepath.Join(dir, "config")
	var args []string
	switch name {
	case "nginx":
		config = "daemon off;\npid " + dir + "/pid;\nerror_log " + dir + "/log warn;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n" +
			nginxTemporary(dir) + config + "}\n"
		args = []string{"-p", dir, "-c", file, "-e", filepath.Join(dir, "log")}
	case "haproxy":
		args = []string{"-db", "-f", file}
	case "caddy":
		args = []string{"run", "--adapter", "caddyfile", "--config", file}
	default:
		require.FailNow(t, "no such proxy", name)
	}
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644)) //nolint:gosec // no secret
	log, err := os.Create(filepath.Join(dir, "out"))              //nolint:gosec // ours
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	command := osexec.Command(path, args...) //nolint:gosec // found above
	command.Dir, command.Stdout, command.Stderr = dir, log, log
	command.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt) // nginx' workers go with it
		timer := time.AfterFunc(5*time.Second, func() { _ = command.Process.Kill() })
		_ = command.Wait()
		timer.Stop()
	})
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	if !eventually(func() bool {
		resp, err := client.Get(url + "/healthz") //nolint:noctx // it has a timeout
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}) {
		said, _ := os.ReadFile(log.Name())
		more, _ := os.ReadFile(filepath.Join(dir, "log"))
		require.FailNow(t, name+" doesn't answer", "%s%s", said, more)
	}
}

// nginxTemporary are the folders that nginx wants to write to.
func nginxTemporary(dir string) string {
	var directives strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&directives, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return directives.String()
}

// ConfigIn returns the block of a Markdown file of this repository that is
// fenced as a language.
func ConfigIn(t testing.TB, file, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), file))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n```"+language+"\n")
	require.True(t, found, "%s has no block in %s", file, language)
	block, _, found := strings.Cut(rest, "\n```")
	require.True(t, found)
	return block + "\n"
}
