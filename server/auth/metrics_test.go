package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// valueOf is that of a counter or a gauge; 0 if it isn't there.
func valueOf(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var is []string
			for _, label := range m.GetLabel() {
				is = append(is, label.GetName()+"="+label.GetValue())
			}
			if family.GetName() == name && strings.Join(is, ",") == strings.Join(labels, ",") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// What an operator sees of an issuer that is down: fetches that fail, keys that age.
func TestMetrics_issuer(t *testing.T) {
	p := newProvider(t, rsaSigner)
	p.down.Store(true)
	registry := prometheus.NewPedanticRegistry()
	r := newRig(t, Config{Issuers: []string{p.URL}, Registerer: registry})
	token := rsaSigner.sign(t, claimsOf(p.URL))
	_, err := r.ask(t, token)
	requireReason(t, errUnreachable, err)
	require.InDelta(t, -1, valueOf(t, registry, "freshet_auth_keys_age_seconds", "issuer="+p.URL), 0)
	failed := valueOf(t, registry, "freshet_auth_fetches_total", "issuer="+p.URL, "result=failed")
	require.GreaterOrEqual(t, failed, 1.0)
	p.down.Store(false)
	r.ahead(pause)
	_, err = r.ask(t, token)
	require.NoError(t, err)
	require.GreaterOrEqual(t, valueOf(t, registry, "freshet_auth_fetches_total", "issuer="+p.URL, "result=ok"), 1.0)
	r.ahead(time.Hour)
	require.InDelta(t, 3600, valueOf(t, registry, "freshet_auth_keys_age_seconds", "issuer="+p.URL), 60)
	_, err = New(Config{Issuers: []string{p.URL}, Audiences: []string{"x"}, Registerer: registry})
	require.ErrorContains(t, err, "register metrics")
}

func TestMetrics_file(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, jwks(t, rsaSigner), 0o600))
	registry := prometheus.NewPedanticRegistry()
	r := newRig(t, Config{KeyFile: path, Registerer: registry})
	stale := func() bool { return valueOf(t, registry, "freshet_auth_keys_stale") == 1 }
	require.False(t, stale())
	require.NoError(t, os.WriteFile(path, []byte("broken"), 0o600))
	require.Error(t, r.Reload(t.Context()))
	require.True(t, stale())
	require.NoError(t, os.WriteFile(path, jwks(t, rsaSigner), 0o600))
	require.NoError(t, r.Reload(t.Context()))
	require.False(t, stale())
}
