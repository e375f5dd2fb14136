// Package conformance judges servers, by playing a scripted client against them, and
// clients, by playing a scripted server: case by case, each of which is a sentence of
// docs/protocol.md. It knows nothing of how they are made: it speaks HTTP, and reads
// what comes back. What a client shows its users, it says in lines of JSON
// (docs/conformance.md).
//
// A case that fails says what came in place of what the sentence promises. A case that
// passes says no more than that it was so this once. Cases run beside each other: those
// of a server use places of their own, those of a client a process and a server each.
package conformance

import (
	"context"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sections of docs/protocol.md that cases come from.
const (
	Revisions = "Revisions and topics"
	Calls     = "Calls"
	Stream    = "The stream"
	Topics    = "Topics of a request"
	Caller    = "Topics out of the caller"
	Rule      = "The client rule"
)

// Case is a sentence of the protocol, and how it is judged.
type Case struct {
	Name    string
	Section string // of docs/protocol.md
	Says    string // there, word by word

	// server judges one; client, somebody's client. One of the two is set.
	server func(*trial)
	client func(*play)
}

// Result is what became of a case.
type Result struct {
	Case
	Failure string        // what was seen in place of what Says says; empty: it holds
	Took    time.Duration // until that was clear
}

// Report is what became of all cases, in their order.
type Report struct{ Results []Result }

// Failed are the names of the cases that don't hold.
func (r *Report) Failed() (names []string) {
	for _, result := range r.Results {
		if result.Failure != "" {
			names = append(names, result.Name)
		}
	}
	return names
}

// WriteText writes a line for each case, what is to be known of those that failed, and
// how many there were.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, result := range r.Results {
		if result.Failure == "" {
			fmt.Fprintf(&b, "ok    %s\n", result.Name)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s\n      docs/protocol.md, %s: %q\n      %s\n", result.Name, result.Section, result.Says, strings.ReplaceAll(result.Failure, "\n", "\n      "))
	}
	failed := len(r.Failed())
	cases := "cases"
	if len(r.Results) == 1 {
		cases = "case"
	}
	fmt.Fprintf(&b, "%d %s, %d passed, %d failed\n", len(r.Results), cases, len(r.Results)-failed, failed)
	_, err := io.WriteString(w, b.String())
	return err
}

// Named says whether the case has the name; a * in that is any number of characters.
func (c Case) Named(pattern string) bool {
	named, err := path.Match(pattern, c.Name)
	return err == nil && named
}

// choose returns those of all cases that a run is about. Empty only: all of them. A
// name that no case has is an error.
func choose(all []Case, only, skip []string) ([]Case, error) {
	for _, name := range slices.Concat(only, skip) {
		if !slices.ContainsFunc(all, func(c Case) bool { return c.Named(name) }) {
			return nil, fmt.Errorf("there is no case %q: --list shows them", name)
		}
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(c Case) bool {
		return slices.ContainsFunc(skip, c.Named) || len(only) > 0 && !slices.ContainsFunc(only, c.Named)
	})
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no case is left of %d", len(all))
	}
	return chosen, nil
}

// atOnce is how many cases run beside each other. Most of them wait.
const atOnce = 16

// run judges each case. A case that ctx ends has failed.
func run(ctx context.Context, cases []Case, at int, judge func(context.Context, Case) string) *Report {
	report := &Report{Results: make([]Result, len(cases))}
	turns := make(chan struct{}, at)
	var all sync.WaitGroup
	for i, c := range cases {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			began := time.Now()
			failure := judge(ctx, c)
			report.Results[i] = Result{Case: c, Failure: failure, Took: time.Since(began)}
		})
	}
	all.Wait()
	return report
}

// verdict is a case under way. It ends at its first failure, as a test does.
type verdict struct {
	failure  string
	cleanups []func()
}

// failf ends the case.
func (v *verdict) failf(format string, args ...any) {
	v.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// needf ends the case unless ok holds.
func (v *verdict) needf(ok bool, format string, args ...any) {
	if !ok {
		v.failf(format, args...)
	}
}

// cleanup is done when the case ends, last first.
func (v *verdict) cleanup(f func()) { v.cleanups = append(v.cleanups, f) }

// decide runs a case on a goroutine of its own and waits for it, since failf ends the
// goroutine that it is called from.
func (v *verdict) decide(judge func()) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, f := range slices.Backward(v.cleanups) {
				f()
			}
		}()
		judge()
	}()
	<-done
	return v.failure
}
