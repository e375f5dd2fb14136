package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookEvery is how often the certificate's files are looked at. They are read, not
// asked for their time: a volume of Kubernetes swaps links. A change counts when
// two looks have seen the same, so that nothing half written does.
const lookEvery = 500 * time.Millisecond

// certificate is a pair of files, followed: whatever happens to them, the last
// pair that fits stays in use. Connections keep the one that they began with.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	stale             atomic.Bool // the files aren't what is in use, and can't be

	mu   sync.Mutex // guards what follows
	text []byte     // of what is in use
	said string     // the error that was logged last; "": none since all was well
}

// openCertificate reads a pair, which has to fit.
func openCertificate(certFile, keyFile string, logger *slog.Logger, registry prometheus.Registerer) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	if err := c.take(context.Background(), c.read(), false); err != nil {
		return nil, err
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends, as Unix time.",
		}, func() float64 { return float64(c.current.Load().Leaf.NotAfter.Unix()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_tls_certificate_stale", Help: "1 while the certificate's files can't be used, and the last good pair is in use.",
		}, func() float64 {
			if c.stale.Load() {
				return 1
			}
			return 0
		}),
	)
	return c, nil
}

// pair is what the files hold.
type pair struct {
	cert, key []byte
	err       error
}

func (p pair) text() []byte { return append(append(bytes.Clone(p.cert), 0), p.key...) }

func (c *certificate) read() (p pair) {
	var err [2]error
	p.cert, err[0] = os.ReadFile(c.certFile)
	p.key, err[1] = os.ReadFile(c.keyFile)
	p.err = errors.Join(err[:]...)
	return p
}

// take puts a pair in use, unless it is already, or doesn't fit. An error is
// logged once, or again for whoever asks; that of the first pair is the caller's.
func (c *certificate) take(ctx context.Context, p pair, asked bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.current.Load() == nil
	if p.err == nil && !first && bytes.Equal(p.text(), c.text) {
		c.stale.Store(false)
		c.said = ""
		return nil
	}
	err := p.err
	var next tls.Certificate
	if err == nil {
		next, err = tls.X509KeyPair(p.cert, p.key)
	}
	if err != nil {
		err = fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.certFile, c.keyFile, err)
		if c.stale.Store(true); !first && (asked || err.Error() != c.said) {
			c.said = err.Error()
			c.logger.ErrorContext(ctx, "the certificate can't be read again: the one of before is kept", "error", err)
		}
		return err
	}
	c.current.Store(&next)
	c.stale.Store(false)
	c.text, c.said = p.text(), ""
	log := c.logger.InfoContext
	if time.Now().After(next.Leaf.NotAfter) {
		log = c.logger.ErrorContext
	}
	log(ctx, "certificate", "subject", next.Leaf.Subject.String(), "names", next.Leaf.DNSNames, "until", next.Leaf.NotAfter)
	return nil
}

// run follows the files until ctx ends.
func (c *certificate) run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		p := c.read()
		if text := p.text(); p.err == nil && !bytes.Equal(text, last) {
			last = text
			continue // perhaps somebody is still writing
		}
		_ = c.take(ctx, p, false) // it is logged
	}
}

// config is what connections are encrypted with: TLS 1.2 and later, as net/http and
// crypto/tls choose.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// ReloadCertificate reads the certificate's files at once, as SIGHUP asks for. The
// error, which is logged too, says why they can't be used: then the last good pair
// stays. Without TLS there is nothing to do.
func (f *Front) ReloadCertificate(ctx context.Context) error {
	if f.certificate == nil {
		return nil
	}
	return f.certificate.take(ctx, f.certificate.read(), true)
}

// onlyTLS tells browsers to come by TLS for a year (RFC 6797). Not for a name that
// is this machine's own to everybody: other programs are served by it without.
func onlyTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && !isLocalName(r.Host) {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalName(host string) bool {
	host = bareName(host)
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost"
}
