package front

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-dev/freshet/internal/follow"
)

// certificate is a pair of files, followed: whatever happens to them, the last
// pair that fits stays in use. Connections keep the one that they began with.
type certificate struct {
	*follow.Files[tls.Certificate]
	logger *slog.Logger
}

// openCertificate reads a pair, which has to fit.
func openCertificate(certFile, keyFile string, logger *slog.Logger, registry prometheus.Registerer) (*certificate, error) {
	c := &certificate{logger: logger}
	var err error
	c.Files, err = follow.Open(follow.Config[tls.Certificate]{
		Paths: []string{certFile, keyFile},
		Parse: func(texts [][]byte) (*tls.Certificate, error) {
			pair, err := tls.X509KeyPair(texts[0], texts[1])
			return &pair, err
		},
		Tell: c.tell,
	})
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", certFile, keyFile, err)
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends, as Unix time.",
		}, func() float64 { return float64(c.Current().Leaf.NotAfter.Unix()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_tls_certificate_stale", Help: "1 while the certificate's files can't be used, and the last good pair is in use.",
		}, c.Staleness),
	)
	c.tell(context.Background(), true, nil)
	return c, nil
}

// tell says which pair is in use, or why it isn't that of the files.
func (c *certificate) tell(ctx context.Context, _ bool, err error) {
	if err != nil {
		c.logger.ErrorContext(ctx, "the certificate can't be read again: the one of before is kept", "error", err)
		return
	}
	leaf := c.Current().Leaf
	level := slog.LevelInfo
	if time.Now().After(leaf.NotAfter) {
		level = slog.LevelError
	}
	c.logger.Log(ctx, level, "certificate", "subject", leaf.Subject.String(), "names", leaf.DNSNames, "until", leaf.NotAfter)
}

// config is what connections are encrypted with: TLS 1.2 and later, as net/http and
// crypto/tls choose.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.Current(), nil
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
	return f.certificate.Reload(ctx)
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
