package check

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run found.
type Report struct {
	URL      string
	Run      string
	Seed     uint64
	Duration time.Duration // of the writing, convergence included
	Clients  int
	Writes   int // committed
	Exact    int // of them, those whose position is known exactly
	// Lost are those that Postgres had acknowledged and that aren't in the history that
	// went on, since a failover or a crash has lost them. That breaks no rule.
	Lost     int
	Notices  int
	Reads    int
	Verdicts []Verdict
	Notice   Latency // commit → notice
	Data     Latency // commit → refetched data
	// The same of commits that a fault may have delayed; Notice and Data leave
	// them out.
	DisturbedNotice, DisturbedData Latency
	// Converged is the time from the end of the writes until every client held
	// what Postgres held, once a round.
	Converged Latency
	Faults    []Caused
	// Exercised is what the server was asked for, and what it wasn't: of that
	// nothing is known.
	Exercised []Exercised
	// Failures are what went wrong without breaking a rule (requests refused,
	// streams cut), and how often.
	Failures map[string]int
	// Notes say what could not be checked.
	Notes []string
}

func (r *run) report(elapsed time.Duration) *Report {
	report := &Report{
		URL: r.cfg.URL, Run: r.cfg.Run, Seed: r.cfg.Seed, Duration: elapsed, Clients: r.cfg.Clients,
		Writes: r.rec.progress.Writes, Exact: r.rec.exact, Lost: r.judge.x.lost, Notices: r.rec.progress.Notices, Reads: r.rec.progress.Reads,
		Verdicts: r.judge.verdicts, Failures: r.rec.failures, Faults: r.caused, Exercised: r.exercised(),
		Notice: r.quiet.notice.summary(), Data: r.quiet.data.summary(),
		DisturbedNotice: r.disturbed.notice.summary(), DisturbedData: r.disturbed.data.summary(), Converged: r.converged.summary(),
	}
	switch {
	case r.cfg.Database == nil:
		report.Notes = append(report.Notes, "without its database ("+database.given()+") there are no writers by SQL and no SELECTs on the primary, truth is what strong reads say, "+
			"and a commit's position is known by its response's stamp only: G1, G2 and G6 see less, latencies are not measured")
	case r.cfg.Database.Note() != "":
		report.Notes = append(report.Notes, r.cfg.Database.Note())
	}
	if n := report.Failures["convergence: "+errNotConnected.Error()]; n > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("%d times a client wasn't connected when writes had stopped, and could not be held to G3", n))
	}
	if n := r.rec.done[longList]; n > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("%d times a list was longer than the %d rows that are read of it: what was missing in it could not be judged", n, maxRows))
	}
	if r.unjudged {
		report.Notes = append(report.Notes, "at the end the database could not be asked what it holds, or no server had begun an epoch there: what happened after it last could was not judged")
	}
	if report.Lost > 0 {
		report.Notes = append(report.Notes, fmt.Sprintf("Postgres acknowledged %d commits that were not in the history that went on, after a failover or a crash: "+
			"in that history nobody is owed them, and nobody may be shown them", report.Lost))
	}
	for _, v := range report.Verdicts {
		if v.Observations == 0 {
			report.Notes = append(report.Notes, v.Rule+" was not observed at all")
		}
	}
	return report
}

// Violations is their number.
func (r *Report) Violations() int {
	n := 0
	for _, v := range r.Verdicts {
		n += v.Violations
	}
	return n
}

// Observations is their number.
func (r *Report) Observations() int {
	n := 0
	for _, v := range r.Verdicts {
		n += v.Observations
	}
	return n
}

// Bound is what zero violations in n observations say with 95 % confidence: the
// rate is below it (the rule of three). It takes observations for independent,
// which those of one run are only in part.
func Bound(n int) float64 { return min(1, 3/float64(n)) }

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, run %s, seed %d: %d writes (%d at an exact position), %d clients, %d notices, %d reads in %v\n",
		r.URL, r.Run, r.Seed, r.Writes, r.Exact, r.Clients, r.Notices, r.Reads, r.Duration.Round(100*time.Millisecond))
	if len(r.Faults) > 0 {
		fmt.Fprintf(&b, "%d faults: %s\n", len(r.Faults), r.faults())
	}
	b.WriteByte('\n')
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "rule\t\tobservations\tviolations\trate below (95 %)")
	for _, v := range r.Verdicts {
		bound := "-"
		if v.Violations == 0 && v.Observations > 0 {
			bound = fmt.Sprintf("%.2g", Bound(v.Observations))
		}
		fmt.Fprintf(tab, "%s\t%s\t%d\t%d\t%s\n", v.Rule, v.Name, v.Observations, v.Violations, bound)
	}
	_ = tab.Flush() // to memory
	b.WriteByte('\n')
	tab = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "latency\tn\tp50\tp99\tp99.9\tmax")
	for _, l := range r.allLatencies() {
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%s\t%s\n", l.name, l.N, short(l.P50), short(l.P99), short(l.P999), short(l.Max))
	}
	_ = tab.Flush() // to memory
	for _, l := range r.latencies() {
		histogram(&b, l)
	}
	b.WriteString(r.exercisedText())
	r.rest(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// faults are counted by name and, where there are several nodes, by node.
func (r *Report) faults() string {
	nodes := 0
	for _, caused := range r.Faults {
		nodes = max(nodes, caused.Node)
	}
	var counts []string
	for _, f := range faults {
		of := make([]int, nodes+1) // the first: not one node alone
		n := 0
		for _, caused := range r.Faults {
			if caused.Name == f.name {
				of[caused.Node]++
				n++
			}
		}
		switch {
		case n > of[0]:
			each := strings.Trim(fmt.Sprint(of[1:]), "[]")
			counts = append(counts, fmt.Sprintf("%s %s", f.name, strings.ReplaceAll(each, " ", "+")))
		case n > 0:
			counts = append(counts, fmt.Sprintf("%s %d", f.name, n))
		}
	}
	return strings.Join(counts, ", ")
}

func (r *Report) rest(b *strings.Builder) {
	if len(r.Failures) > 0 {
		b.WriteString("\nwhat failed without breaking a rule:\n")
		for _, text := range mostFrequent(r.Failures) {
			fmt.Fprintf(b, "  %6d × %s\n", r.Failures[text], text)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(b, "\nnote: %s\n", note)
	}
	for _, v := range r.Verdicts {
		if s := v.Shortest; s != nil {
			fmt.Fprintf(b, "\n%s, %s, is broken: %s\n%s%s", v.Rule, v.Name, s.What, indent(s.Excerpt.String()), r.around(s.Excerpt))
		}
	}
	if r.Violations() == 0 {
		fmt.Fprintf(b, "\nno violation in %d observations: with 95 %% confidence fewer than one in %d breaks a rule\n",
			r.Observations(), max(1, r.Observations()/3))
	} else {
		fmt.Fprintf(b, "\n%d violations in %d observations\n", r.Violations(), r.Observations())
	}
}

// around names the faults that happened not long before the end of an excerpt.
func (r *Report) around(h *History) string {
	var end time.Duration
	for _, f := range h.Frames {
		end = max(end, f.At)
	}
	for _, read := range h.Reads {
		end = max(end, read.End)
	}
	for _, v := range h.Views {
		end = max(end, v.At)
	}
	var b strings.Builder
	for _, f := range r.Faults {
		const lately = 5 * time.Second
		if f.At <= end && end <= f.At+f.Took+lately {
			fmt.Fprintf(&b, "  after %v from %s to %s\n", f, millis(f.At), millis(f.At+f.Took))
		}
	}
	return b.String()
}

func mostFrequent(failures map[string]int) []string {
	var texts []string
	for text := range failures {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int {
		if failures[a] != failures[b] {
			return failures[b] - failures[a]
		}
		return strings.Compare(a, b)
	})
	return texts[:min(len(texts), 10)]
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}

type namedLatency struct {
	name string
	Latency
}

func (r *Report) latencies() []namedLatency {
	return []namedLatency{{"commit → notice", r.Notice}, {"commit → refetched data", r.Data}}
}

// allLatencies are those of the table.
func (r *Report) allLatencies() []namedLatency {
	all := r.latencies()
	if len(r.Faults) > 0 {
		all = append(all, namedLatency{"around faults: commit → notice", r.DisturbedNotice},
			namedLatency{"around faults: commit → refetched data", r.DisturbedData})
	}
	return append(all, namedLatency{"writes stop → all clients equal", r.Converged})
}

// short is a duration to three digits or so.
func short(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d.Abs() >= time.Second:
		return fmt.Sprintf("%.2f s", ms/1000)
	case d.Abs() >= 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}

// histogram draws a bar per bucket from the first that holds something to the
// last.
func histogram(b *strings.Builder, l namedLatency) {
	first, last := occupied(l.Latency)
	if first < 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", l.name)
	most := slices.Max(l.Buckets)
	for i := first; i <= last; i++ {
		bar := int(math.Ceil(50 * float64(l.Buckets[i]) / float64(most)))
		fmt.Fprintf(b, "  ≤ %8s  %-50s %d\n", short(bucketEnd(i)), strings.Repeat("█", bar), l.Buckets[i])
	}
}

// occupied are the first and last buckets that hold something; -1: none.
func occupied(l Latency) (first, last int) {
	first, last = -1, -1
	for i, n := range l.Buckets {
		if n > 0 {
			if last = i; first < 0 {
				first = i
			}
		}
	}
	return first, last
}

// MarshalJSON writes snake_case, and durations in milliseconds.
func (r *Report) MarshalJSON() ([]byte, error) {
	type object = map[string]any
	latency := func(l Latency) object {
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		of := []object{}
		for i, n := range l.Buckets {
			of = append(of, object{"up_to_ms": ms(bucketEnd(i)), "n": n})
		}
		return object{"n": l.N, "min_ms": ms(l.Min), "p50_ms": ms(l.P50), "p99_ms": ms(l.P99), "p999_ms": ms(l.P999), "max_ms": ms(l.Max), "buckets": of}
	}
	rules := []object{}
	for _, v := range r.Verdicts {
		rule := object{"rule": v.Rule, "name": v.Name, "observations": v.Observations, "violations": v.Violations}
		if v.Violations == 0 && v.Observations > 0 {
			rule["rate_below"] = Bound(v.Observations)
		}
		if s := v.Shortest; s != nil {
			rule["shortest"] = object{"what": s.What, "history": strings.Split(strings.TrimSuffix(s.Excerpt.String(), "\n"), "\n")}
		}
		rules = append(rules, rule)
	}
	caused := []object{}
	for _, f := range r.Faults {
		caused = append(caused, object{"name": f.Name, "node": f.Node, "at_ms": f.At.Milliseconds(), "took_ms": f.Took.Milliseconds()})
	}
	exercised, not := object{}, []object{}
	for _, e := range r.Exercised {
		if e.N > 0 {
			exercised[string(e.Exercise)] = e.N
		} else {
			not = append(not, object{"what": e.Exercise, "needs": e.Needs})
		}
	}
	return json.Marshal(object{
		"url": r.URL, "run": r.Run, "seed": fmt.Sprint(r.Seed), "duration_ms": r.Duration.Milliseconds(),
		"clients": r.Clients, "writes": r.Writes, "lost_writes": r.Lost, "exact_positions": r.Exact, "notices": r.Notices, "reads": r.Reads,
		"observations": r.Observations(), "violations": r.Violations(), "rules": rules,
		"commit_to_notice": latency(r.Notice), "commit_to_data": latency(r.Data), "convergence": latency(r.Converged),
		"disturbed_commit_to_notice": latency(r.DisturbedNotice), "disturbed_commit_to_data": latency(r.DisturbedData),
		"faults": caused, "exercised": exercised, "not_exercised": not,
		"failures": r.Failures, "notes": slices.Concat([]string{}, r.Notes),
	})
}
