package relay_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/testkit"
	"github.com/freshet-dev/freshet/server/relay"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	file string // its own, in PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _ = a.sign(template, time.Hour)
	return a
}

// sign returns files of a certificate that ends after a while, and of its key.
func (a *authority) sign(template *x509.Certificate, ends time.Duration) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(a.t, err)
	template.Subject = pkix.Name{CommonName: "freshet test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(ends)
	if a.key == nil {
		a.cert, a.key = template, private
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	require.NoError(a.t, err)
	if template == a.cert {
		a.cert, err = x509.ParseCertificate(signed)
		require.NoError(a.t, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(a.t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600))
	require.NoError(a.t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return cert, key
}

// server returns files for a server of that name, or address.
func (a *authority) server(name string, ends time.Duration) (cert, key string) {
	template := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return a.sign(template, ends)
}

// node returns files for a client.
func (a *authority) node(ends time.Duration) (cert, key string) {
	return a.sign(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ends)
}

// withTLS has a server take nothing else, and ask for certificates of clients if they
// are to be signed by somebody.
func (a *authority) withTLS(name string, ends time.Duration, clients *authority) func(*natsserver.Options) {
	cert, key := a.server(name, ends)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(a.t, err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(clients.cert)
	}
	return func(o *natsserver.Options) { o.TLSConfig, o.TLS, o.TLSTimeout = config, true, 5 }
}

const sesame = "open-sesame"

// TLS to NATS, and who may come in: what is wrong is said in words that name what to do,
// by doctor (Check) and, of a node that runs, in Ready and the log. No secret is in them.
func TestRelay_connectErrors(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	ok := startNATS(t, ours.withTLS("127.0.0.1", time.Hour, ours), func(o *natsserver.Options) { o.Username, o.Password = "node", sesame })
	elsewhere := startNATS(t, ours.withTLS("nats.example.com", time.Hour, nil))
	expired := startNATS(t, ours.withTLS("127.0.0.1", -time.Hour, nil))
	plain := startNATS(t)
	cert, key := ours.node(time.Hour)
	mine := func(c *relay.Config) { c.RootCAs, c.Cert, c.Key = ours.file, cert, key }
	url := func(n *natsServer) string { return "tls://node:" + sesame + "@" + n.addr() }
	for name, tt := range map[string]struct {
		url    string
		adjust func(*relay.Config)
		fault  relay.Fault
	}{
		"all is well":              {url(ok), mine, ""},
		"nats:// becomes TLS":      {"nats://node:" + sesame + "@" + ok.addr(), mine, ""},
		"whose CA is not trusted":  {url(ok), func(c *relay.Config) { mine(c); c.RootCAs = others.file }, relay.FaultServerCertificate},
		"the system's CAs":         {url(ok), func(c *relay.Config) { mine(c); c.RootCAs = "" }, relay.FaultServerCertificate},
		"another name":             {url(elsewhere), mine, relay.FaultServerName},
		"the server's has expired": {url(expired), mine, relay.FaultServerExpired},
		"none of our own":          {url(ok), func(c *relay.Config) { c.RootCAs = ours.file }, relay.FaultOwnCertificate},
		"ours is of another CA":    {url(ok), func(c *relay.Config) { mine(c); c.Cert, c.Key = others.node(time.Hour) }, relay.FaultOwnCertificate},
		"ours has expired":         {url(ok), func(c *relay.Config) { mine(c); c.Cert, c.Key = ours.node(-time.Hour) }, relay.FaultOwnCertificate},
		"a wrong password":         {"tls://node:un" + sesame + "@" + ok.addr(), mine, relay.FaultCredentials},
		"no user":                  {"tls://" + ok.addr(), mine, relay.FaultCredentials},
		"no TLS there":             {url(plain), mine, relay.FaultNoTLS},
		"nobody there":             {"tls://node:" + sesame + "@127.0.0.1:1", mine, relay.FaultUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := relay.Config{Servers: []string{tt.url}}
			tt.adjust(&cfg)
			_, err := relay.Check(testkit.Context(t), cfg)
			if tt.fault == "" {
				require.NoError(t, err)
				return
			}
			var why *relay.ConnectError
			require.ErrorAs(t, err, &why)
			require.Equal(t, tt.fault, why.Fault, err)
			require.ErrorContains(t, err, string(tt.fault))
			require.NotContains(t, err.Error(), sesame)
		})
	}
	for _, err := range []error{io.EOF, syscall.EPIPE, syscall.ECONNRESET} { // as nats.go words it, whose timing it is
		err = fmt.Errorf("%w: connection closed by remote after TLS handshake: %w", nats.ErrTLS, err)
		require.Equal(t, relay.FaultOwnCertificate, relay.Explain(err), err)
	}
	cfg := relay.Config{Servers: []string{url(ok)}, Credentials: filepath.Join(t.TempDir(), "none.creds")}
	_, err := relay.Check(testkit.Context(t), cfg)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "a file of credentials")
	_, err = relay.Check(testkit.Context(t), relay.Config{Servers: []string{url(ok)}, RootCAs: key})
	require.ErrorContains(t, err, "there is none in "+key)
}

// A node that runs while the password is changed at the servers, for a second: it says
// why it isn't ready, and comes back when it is let in again, over TLS. F38.
func TestRelay_refusedForAWhile(t *testing.T) {
	ours := newAuthority(t)
	password := sesame
	nats := startNATS(t, ours.withTLS("127.0.0.1", time.Hour, nil), func(o *natsserver.Options) { o.Username, o.Password = "node", password })
	f := newFleet(t)
	log := new(testkit.Buffer)
	tls := func(c *relay.Config) {
		c.Servers, c.RootCAs = []string{"tls://node:" + sesame + "@" + nats.addr()}, ours.file
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	f.add(nats.addr(), tls)
	f.caughtUp(f.nodes[0])
	f.add(nats.addr(), tls)
	f.caughtUp(f.nodes...)
	follower := f.nodes[1]

	nats.stop()
	password = "another-sesame"
	nats.start(t)
	var why *relay.ConnectError
	f.eventually("it says why", func() bool { return errors.As(follower.relay.Ready(), &why) && why.Fault == relay.FaultCredentials })
	require.ErrorIs(t, follower.relay.Ready(), relay.ErrNoNATS)
	nats.stop()
	password = sesame
	nats.start(t)
	f.caughtUp(f.nodes...)
	require.Contains(t, log.String(), "are not what it knows")
	require.NotContains(t, log.String(), sesame)
	require.Less(t, strings.Count(log.String(), "NATS can't be reached"), 10, "once for each kind, of each node")
}

// operator has a server of NATS whose users come with a JWT that an account of its has
// signed.
type operator struct {
	t       *testing.T
	account nkeys.KeyPair
	adjust  func(*natsserver.Options)
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	top, err := nkeys.CreateOperator()
	require.NoError(t, err)
	topKey, err := top.PublicKey()
	require.NoError(t, err)
	o := &operator{t: t}
	o.account, err = nkeys.CreateAccount()
	require.NoError(t, err)
	accountKey, err := o.account.PublicKey()
	require.NoError(t, err)
	claims := jwt.NewOperatorClaims(topKey)
	account, err := jwt.NewAccountClaims(accountKey).Encode(top)
	require.NoError(t, err)
	resolver := new(natsserver.MemAccResolver)
	require.NoError(t, resolver.Store(accountKey, account))
	o.adjust = func(options *natsserver.Options) {
		options.TrustedOperators, options.AccountResolver = []*jwt.OperatorClaims{claims}, resolver
	}
	return o
}

// write puts a user's credentials into a file, and returns the secrets in it.
func (o *operator) write(file string, expires time.Time) (secrets []string) {
	o.t.Helper()
	user, err := nkeys.CreateUser()
	require.NoError(o.t, err)
	key, err := user.PublicKey()
	require.NoError(o.t, err)
	claims := jwt.NewUserClaims(key)
	claims.Expires = expires.Unix()
	token, err := claims.Encode(o.account)
	require.NoError(o.t, err)
	seed, err := user.Seed()
	require.NoError(o.t, err)
	text, err := jwt.FormatUserConfig(token, seed)
	require.NoError(o.t, err)
	require.NoError(o.t, os.WriteFile(file+".new", text, 0o600))
	require.NoError(o.t, os.Rename(file+".new", file))
	return []string{token, string(seed)}
}

// Credentials expire while a node runs, and are renewed in their file: the node says why
// it isn't ready, and comes back by itself. F38.
func TestRelay_credentialsExpire(t *testing.T) {
	o := newOperator(t)
	nats := startNATS(t, o.adjust)
	file := filepath.Join(t.TempDir(), "freshet.creds")
	lasting := filepath.Join(t.TempDir(), "holder.creds")
	o.write(lasting, time.Now().Add(time.Hour))
	f := newFleet(t)
	f.add(nats.addr(), func(c *relay.Config) { c.Credentials = lasting })
	f.caughtUp(f.nodes[0])
	log := new(testkit.Buffer)
	secrets := o.write(file, time.Now().Add(4*time.Second))
	follower := f.add(nats.addr(), func(c *relay.Config) {
		c.Credentials, c.Logger = file, slog.New(slog.NewTextHandler(log, nil))
	})
	f.caughtUp(follower)
	var why *relay.ConnectError
	f.eventually("it says why", func() bool { return errors.As(follower.relay.Ready(), &why) })
	require.Equal(t, relay.FaultExpired, why.Fault)
	require.Contains(t, log.String(), string(relay.FaultExpired))
	_, err := relay.Check(testkit.Context(t), relay.Config{Servers: []string{"nats://" + nats.addr()}, Credentials: file})
	require.ErrorAs(t, err, &why)
	require.Equal(t, relay.FaultCredentials, why.Fault, "to a stranger the server doesn't say more")
	secrets = append(secrets, o.write(file, time.Now().Add(time.Hour))...)
	f.caughtUp(f.nodes...)
	for _, secret := range secrets {
		require.NotContains(t, log.String()+err.Error(), secret)
	}
}
