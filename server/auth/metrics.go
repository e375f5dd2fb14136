package auth

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register has the metrics counted, if somebody counts.
func (a *Authenticator) register(registerer prometheus.Registerer) error {
	fetches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_auth_fetches_total", Help: "Times that an issuer was asked for its keys, by result: ok, or failed and those of before are kept.",
	}, []string{"issuer", "result"})
	all := []prometheus.Collector{fetches}
	for name, i := range a.issuers {
		for _, result := range []string{"ok", "failed"} {
			fetches.WithLabelValues(name, result)
		}
		i.fetches = func(result string) { fetches.WithLabelValues(name, result).Inc() }
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_auth_keys_age_seconds", Help: "Time since an issuer's keys were fetched last; -1: never, so that none of its tokens can be checked.",
			ConstLabels: prometheus.Labels{"issuer": name},
		}, i.age))
	}
	if a.file != nil {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "freshet_auth_keys_stale", Help: "1 while the file of keys can't be used, and those that were read before count.",
		}, a.file.Staleness))
	}
	if registerer == nil {
		return nil
	}
	for _, c := range all {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
