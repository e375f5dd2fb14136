package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/freshet-dev/freshet/internal/front"
	"github.com/freshet-dev/freshet/internal/testkit"
)

var updateMetrics = flag.Bool("update", false, "write docs/metrics.md anew")

const (
	rulesFile     = "deploy/prometheus/freshet.rules.yaml"
	ruleTestsFile = "deploy/prometheus/freshet.test.yaml"
	dashboardFile = "deploy/grafana/freshet.json"
)

// scrape is what a server that has seen something of everything shows on its admin
// port.
func scrape(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	admin := listener.Addr().String()
	require.NoError(t, listener.Close())
	p := startProgram(t, "--admin-addr="+admin, "--grants="+openGrantsFile(t), "--database-url="+testkit.Migrated(t),
		"--replica-url=postgres://127.0.0.1:1/none", "--nats-url=nats://127.0.0.1:1", "--nats-fallback", "--max-lag=1s", "--explain", "--oidc-issuer=http://127.0.0.1:1", "--jwt-keys="+keysFile(t), "--jwt-audience=freshet", "--auth-anonymous")
	stream, err := new(net.Dialer).DialContext(testkit.Context(t), "tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	_, err = io.WriteString(stream, "GET /events?topic=messages HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 42\r\n\r\n")
	require.NoError(t, err)
	_, err = stream.Read(make([]byte, 1))
	require.NoError(t, err)
	for range 2 {
		status, _ := p.status(t, "/messages.v1.MessageService/ListConversations?connect=v1&encoding=json&message=%7B%7D")
		require.Equal(t, http.StatusOK, status)
	}
	for path, want := range map[string]int{
		"/events?topic=%00": http.StatusBadRequest,
		"/nothing":          http.StatusNotFound,
		"/?access_token=x":  http.StatusBadRequest,
		"/messages.v1.MessageService/ListMessages?connect=v1&encoding=json&message=%7B%7D":                                      http.StatusBadRequest,
		"/messages.v1.MessageService/ListMessages?connect=v1&encoding=json&message=%7B%22parent%22:%22conversations/none%22%7D": http.StatusOK,
	} {
		status, body := p.status(t, path)
		require.Equal(t, want, status, "%s: %s", path, body)
	}
	for _, body := range []string{`{"parent":"conversations/1","message":{"author":"ada","body":"hello"}}`, `{}`, `{"parent":`} {
		resp, err := http.Post(p.url+"/messages.v1.MessageService/CreateMessage", "application/json", strings.NewReader(body)) //nolint:noctx // the test's own server
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	resp, err := http.Get("http://" + admin + "/metrics") //nolint:noctx // the test's own server
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	http.DefaultClient.CloseIdleConnections()
	return string(text)
}

// openGrantsFile lets everybody everything, so that grants have metrics.
func openGrantsFile(t *testing.T) string {
	t.Helper()
	return settingsFile(t, `anonymous: {read: ["**"], write: ["**"]}`)
}

// keysFile holds a key that signs nothing.
func keysFile(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return settingsFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

// ofTLS are the metrics that a port with a certificate has besides.
func ofTLS(t *testing.T) (all []*dto.MetricFamily) {
	t.Helper()
	pair := testkit.NewCertificate(t)
	f, err := front.New(front.Config{TLSCert: pair.CertFile, TLSKey: pair.KeyFile})
	require.NoError(t, err)
	gathered, err := f.Registry().Gather()
	require.NoError(t, err)
	for _, family := range gathered {
		if strings.HasPrefix(family.GetName(), "freshet_tls_") {
			all = append(all, family)
		}
	}
	require.NotEmpty(t, all)
	return all
}

func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err)
	return all
}

// What is shown on the admin port is named as Prometheus wants it, listed in
// docs/metrics.md, and all that alerts, dashboard and documents ask for.
func TestMetrics(t *testing.T) {
	text := scrape(t)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	all := families(t, text)
	require.Greater(t, len(all), 60)
	for _, family := range ofTLS(t) {
		all[family.GetName()] = family
	}

	t.Run("promtool", func(t *testing.T) {
		said, err := testkit.Promtool(t, text, "check", "metrics")
		require.NoError(t, err, said)
		require.Empty(t, said)
		_, err = testkit.Promtool(t, "# TYPE freshet_bad counter\nfreshet_bad 1\n", "check", "metrics")
		require.Error(t, err, "it looks")
	})
	t.Run("documented", func(t *testing.T) {
		want := metricsTable(all)
		path := filepath.Join(testkit.Root(), "docs", "metrics.md")
		if *updateMetrics {
			require.NoError(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // a document
		}
		is, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(is), "go test ./cmd/freshet -run TestMetrics -update")
	})
	files, err := filepath.Glob(filepath.Join(testkit.Root(), "docs", "*.md"))
	require.NoError(t, err)
	for _, file := range append(files, rulesFile, ruleTestsFile, dashboardFile) {
		t.Run("named in "+filepath.Base(file), func(t *testing.T) {
			names := slices.DeleteFunc(namedMetrics(t, file), func(name string) bool {
				// Roles are named alike: freshet_app.
				return !slices.ContainsFunc(slices.Collect(maps.Keys(all)), func(is string) bool {
					return strings.Join(strings.SplitN(is, "_", 3)[:2], "_") == strings.Join(strings.SplitN(name, "_", 3)[:2], "_")
				})
			})
			if !strings.HasSuffix(file, ".md") {
				require.NotEmpty(t, names)
			}
			for _, name := range names {
				base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				require.True(t, all[name] != nil || all[base] != nil, "%s names %s, which a live server doesn't have", file, name)
			}
		})
	}
}

// namedMetrics are those that a file speaks of: in documents, what is in backquotes.
func namedMetrics(t *testing.T, file string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pattern := `\b((?:freshet|go|process)_[a-z_]+)\b`
	if strings.HasSuffix(file, ".md") {
		pattern = "`(freshet_[a-z_]+)[`{]"
	}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// metricsTable is docs/metrics.md.
func metricsTable(all map[string]*dto.MetricFamily) string {
	var doc strings.Builder
	doc.WriteString("# Metrics\n\nWhat `/metrics` on `--admin-addr` shows, beside Go's own (`go_*`, `process_*`). [operations.md](operations.md#what-to-watch) says which of it to watch. Those of grants, authentication and TLS are there when these are turned on. Written by `go test ./cmd/freshet -run TestMetrics -update`.\n\n| metric | type | labels | |\n|---|---|---|---|\n")
	names := make([]string, 0, len(all))
	for name := range all {
		if strings.HasPrefix(name, "freshet_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		family := all[name]
		var labels []string
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if !slices.Contains(labels, "`"+label.GetName()+"`") {
					labels = append(labels, "`"+label.GetName()+"`")
				}
			}
		}
		slices.Sort(labels)
		fmt.Fprintf(&doc, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), strings.Join(labels, ", "), family.GetHelp())
	}
	return doc.String()
}

// alerts are the names in the rules, in their order.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      struct{ Severity string }
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
			require.Contains(t, []string{"critical", "warning", "info"}, rule.Labels.Severity, rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.Contains(t, rule.Annotations["runbook_url"], "docs/operations.md#what-to-watch", rule.Alert)
		}
	}
	return names
}

// Each line of the runbook is an alert, and each alert a line; and of each there
// is a unit test in which it fires, and one in which it doesn't.
func TestAlerts(t *testing.T) {
	t.Parallel()
	all := alerts(t)
	require.NotEmpty(t, all)
	manual, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	_, runbook, _ := strings.Cut(string(manual), "## What to watch")
	var lines []string
	for _, line := range regexp.MustCompile("(?m)^\\| `(Freshet\\w+)`").FindAllStringSubmatch(runbook, -1) {
		lines = append(lines, line[1])
	}
	require.Equal(t, all, lines)

	said, err := testkit.Promtool(t, "", "check", "rules", rulesFile)
	require.NoError(t, err, said)
	said, err = testkit.Promtool(t, "", "test", "rules", ruleTestsFile)
	require.NoError(t, err, said)

	text, err := os.ReadFile(ruleTestsFile)
	require.NoError(t, err)
	var file struct {
		Tests []struct {
			Name string
			Asks []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	fires, doesNot := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, ask := range test.Asks {
			name := regexp.MustCompile(`^ALERTS\{alertname="(\w+)", alertstate="firing"\}$`).FindStringSubmatch(ask.Expr)
			require.NotNil(t, name, test.Name)
			if len(ask.Samples) > 0 {
				fires[name[1]] = true
			} else {
				doesNot[name[1]] = true
			}
		}
	}
	for _, name := range all {
		require.True(t, fires[name] && doesNot[name], "%s: a test in which it fires, and one in which it doesn't", name)
	}
}

// panel is what we look at of one; the whole is held against Grafana's schema by
// `make verify/dashboards`.
type panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ Expr, RefID string }
}

// Every query of the dashboard parses, no panel lies upon another one, and alerts
// that it names are there.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var board struct {
		Panels      []panel
		Annotations struct{ List []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(text, &board))
	require.Greater(t, len(board.Panels), 20)
	known := alerts(t)
	used := map[[2]int]int{}
	ids := map[int]bool{}
	queries := []string{board.Annotations.List[0].Expr}
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Zero(t, used[at], "%s lies upon panel %d", p.Title, used[at])
				used[at] = p.ID
			}
		}
		for _, name := range regexp.MustCompile(`Freshet[A-Z]\w+`).FindAllString(p.Description, -1) {
			require.Contains(t, known, name, p.Title)
		}
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	for _, name := range known {
		require.True(t, name == "FreshetAbsent" || name == "FreshetNotReady" || strings.Contains(string(text), name), "no panel shows what %s is about", name)
	}

	// As recording rules, which promtool parses.
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, query := range queries {
		expr, err := json.Marshal(strings.ReplaceAll(query, "$__rate_interval", "5m"))
		require.NoError(t, err)
		fmt.Fprintf(&rules, "      - {record: \"dashboard:query%d\", expr: %s}\n", i, expr)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	require.NoError(t, os.WriteFile(file, []byte(rules.String()), 0o600))
	said, err := testkit.Promtool(t, "", "check", "rules", file)
	require.NoError(t, err, said)
	require.Contains(t, said, fmt.Sprintf("%d rules found", len(queries)))
}
