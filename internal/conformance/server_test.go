package conformance_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/conformance"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// TestServer_faults: the judge is judged. A server that keeps the protocol passes; one
// that breaks a sentence of it fails the case of that sentence, and no other.
func TestServer_faults(t *testing.T) {
	for _, c := range conformance.ServerCases() {
		require.Contains(t, serverFaults, c.Name, "a case that no server is known to fail")
	}
	require.Len(t, serverFaults, len(conformance.ServerCases()))
	faults := maps.Clone(serverFaults)
	faults["none"] = flaw{front: none}
	each(t, slices.Sorted(maps.Keys(faults)), func(name string) (*conformance.Report, error) {
		fault, service := faults[name], conformance.Messages()
		service.PlaceLength = 440 // so that a frame is full sooner
		service.Misspelled.Procedure, service.Misspelled.Body = service.Missing.Procedure, []byte(`{"name":"conversations/PLACE/messages/00000000-0000-7000-8000-00000000000A"}`)
		return exactly(name, func(patience time.Duration) (*conformance.Report, error) {
			url, stop, err := startDouble(fault.inside, fault.front)
			if err != nil {
				return nil, err
			}
			defer stop()
			return conformance.Server(t.Context(), conformance.ServerConfig{URL: url, Service: service, Patience: patience})
		})
	})
}

// TestServer_late: a server that stamps writes above their commits, and tells them when
// they have returned already, keeps the protocol.
func TestServer_late(t *testing.T) {
	url, stop, err := startDouble(late, none)
	require.NoError(t, err)
	defer stop()
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: url, Service: conformance.Messages()})
	require.NoError(t, err)
	requirePassed(t, report)
}

// TestServer_seldom: so does one whose heartbeats are further apart than its judge is
// patient.
func TestServer_seldom(t *testing.T) {
	url, stop, err := startDouble(seldom, none)
	require.NoError(t, err)
	defer stop()
	report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{
		URL: url, Service: conformance.Messages(), Patience: seldomBeats / 2, Only: []string{"id-promise", "frontier-moves"},
	})
	require.NoError(t, err)
	requirePassed(t, report)
}

// TestServer_optional: a server without what OptionalCases says that it may be without
// fails these cases, and no other.
func TestServer_optional(t *testing.T) {
	var optional []string
	for _, c := range conformance.ServerCases() {
		if slices.ContainsFunc(conformance.OptionalCases(), func(g conformance.Group) bool { return c.Named(g.Cases) }) {
			optional = append(optional, c.Name)
		}
	}
	url, stop, err := startDouble("", bare)
	require.NoError(t, err)
	defer stop()
	judge := func(skip ...string) *conformance.Report {
		report, err := conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: url, Service: conformance.Messages(), Skip: skip})
		require.NoError(t, err)
		return report
	}
	require.Equal(t, optional, judge().Failed())
	var all []string
	for _, g := range conformance.OptionalCases() {
		all = append(all, g.Cases)
	}
	requirePassed(t, judge(all...)) // each pattern is one of cases, too
}

// TestServer_ofCaller: the topics of the service's read may take a claim of the caller,
// whose value its answer says.
func TestServer_ofCaller(t *testing.T) {
	service := conformance.Messages()
	service.Read.Topic = "orgs/{principal.org_id}/" + service.Read.Topic
	judge := func(inside string) (*conformance.Report, error) {
		url, stop, err := startDouble(inside, none)
		require.NoError(t, err)
		defer stop()
		return conformance.Server(testkit.Context(t), conformance.ServerConfig{URL: url, Service: service})
	}
	report, err := judge(ofCaller)
	require.NoError(t, err)
	requirePassed(t, report)
	_, err = judge("")
	require.ErrorContains(t, err, `no Freshet-Principal that says the claim`)
}

func TestReport_ofOne(t *testing.T) {
	var text strings.Builder
	require.NoError(t, (&conformance.Report{Results: make([]conformance.Result, 1)}).WriteText(&text))
	require.Contains(t, text.String(), "\n1 case, 1 passed, 0 failed\n")
}

// each judges those who have the faults, and says of each that it fails the case of its
// name, and no other. Runs mostly wait, so there are more of them than t.Parallel would
// have.
func each(t *testing.T, names []string, judge func(name string) (*conformance.Report, error)) {
	t.Helper()
	atOnce := 8
	if underRace { // what it looks for, a few show: each run has all of the kit in it
		atOnce = 2
		names = slices.DeleteFunc(names, func(name string) bool { return name != "none" && len(name)%16 != 0 })
	}
	type outcome struct {
		report *conformance.Report
		err    error
	}
	turns, outcomes := make(chan struct{}, atOnce), map[string]chan outcome{}
	var all sync.WaitGroup
	for _, name := range names {
		ended := make(chan outcome, 1)
		outcomes[name] = ended
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			report, err := judge(name)
			ended <- outcome{report, err}
		})
	}
	t.Cleanup(all.Wait)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			o := <-outcomes[name]
			require.NoError(t, o.err)
			var text strings.Builder
			require.NoError(t, o.report.WriteText(&text))
			require.Equal(t, expected(name), o.report.Failed(), text.String())
		})
	}
}

func expected(name string) []string {
	if name == "none" {
		return nil
	}
	return []string{name}
}

// exactly judges until what fails is what should. Where the machine has no time it takes
// longer and longer patience, also where the first question already went unanswered.
func exactly(name string, judge func(patience time.Duration) (*conformance.Report, error)) (report *conformance.Report, err error) {
	for patience := time.Second; patience < 10*time.Second; patience *= 2 {
		if report, err = judge(patience); err == nil && slices.Equal(report.Failed(), expected(name)) {
			break
		}
	}
	return report, err
}
