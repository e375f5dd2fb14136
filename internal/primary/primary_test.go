package primary

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestHostsOf(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig("postgres://u@a:1,b:2,c:3/db?sslmode=prefer&target_session_attrs=read-write")
	require.NoError(t, err)
	require.Len(t, config.Fallbacks, 5, "each of them with TLS and without")
	require.Equal(t, []host{{"a", 1}, {"b", 2}, {"c", 3}}, hostsOf(config))

	to := narrowed(config, host{"b", 2})
	require.Equal(t, []host{{"b", 2}}, hostsOf(to))
	require.NotNil(t, to.TLSConfig, "with TLS first")
	require.Len(t, to.Fallbacks, 1)
	require.Nil(t, to.Fallbacks[0].TLSConfig)
	require.Nil(t, to.ValidateConnect)
	require.Len(t, hostsOf(config), 3, "the original is untouched")
}

func TestChoose(t *testing.T) {
	t.Parallel()
	at := func(name, system string, timeline uint64) answer {
		return answer{host: host{name, 1}, primary: timeline > 0, system: system, started: name, timeline: timeline}
	}
	down := answer{host: host{"down", 1}, err: errors.New("refused")}
	for name, c := range map[string]struct {
		answers []answer
		best    string
		left    []string
	}{
		"one primary":             {answers: []answer{down, at("standby", "s", 0), at("a", "s", 3)}, best: "a"},
		"none":                    {answers: []answer{down, at("standby", "s", 0)}},
		"left behind, and first":  {answers: []answer{at("old", "s", 1), at("new", "s", 2)}, best: "new", left: []string{"old"}},
		"left behind, and last":   {answers: []answer{at("new", "s", 2), at("old", "s", 1)}, best: "new", left: []string{"old"}},
		"nothing says which":      {answers: []answer{at("a", "s", 2), at("b", "s", 2)}, best: "a", left: []string{"b"}},
		"two names of one":        {answers: []answer{at("a", "s", 2), {host: host{"alias", 1}, primary: true, system: "s", started: "a", timeline: 2}}, best: "a"},
		"another system is apart": {answers: []answer{at("a", "s", 1), at("other", "t", 9)}, best: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			best, left := choose(c.answers)
			if c.best == "" {
				require.Nil(t, best)
				require.ErrorContains(t, none(c.answers), "standby:1 is a standby")
				require.ErrorContains(t, none(c.answers), "down:1: refused")
				return
			}
			require.Equal(t, c.best, best.host.name)
			var names []string
			for _, a := range left {
				names = append(names, a.host.name)
			}
			require.Equal(t, c.left, names)
		})
	}
}
