package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/freshet-dev/freshet/bench/rig"
	"github.com/freshet-dev/freshet/bench/scale/sim"
)

// aligned is a table for people, with columns on the right.
func aligned(write func(w *tabwriter.Writer)) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	write(w)
	_ = w.Flush() // into memory
	return b.String()
}

// comparisonTable has what was measured beside what is simulated.
func (f *future) comparisonTable() string {
	return aligned(func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "measured and simulated\tmeasured\tsimulated\t\tratio\t")
		for _, c := range f.Compared {
			fmt.Fprintf(w, "%s\t%.3g\t%.3g\t%s\t%.2f\t\n", c.What, c.Measured, c.Simulated, c.Unit, c.ratio())
		}
	})
}

// nodesText is whether a node has the same to do for three times as many.
func (m *measurement) nodesText() string {
	one, three := m.perFrame(1), m.perFrame(3)
	return fmt.Sprintf("%d streams per node, %.0f commits/s, each told to a twentieth of them: the nodes' CPU per notice is %.2f µs with one node and %.2f with three.\n"+
		"So three nodes deliver %.2f × the notices of one, for the same CPU of each.\n",
		m.Options.Streams, fanRate, one, three, 3*one/three)
}

// perFrame is all that the nodes' processes take, over the frames that were read, in µs.
func (m *measurement) perFrame(nodes int) float64 {
	return figures{m}.fan(nodes, func(c *cell) float64 { return c.nodeCPU() * float64(c.Nodes) * 1e6 / c.Frames })
}

func count(n float64) string {
	switch {
	case n >= 9.95e5:
		return fmt.Sprintf("%.3g M", n/1e6)
	case n >= 9950:
		return fmt.Sprintf("%.3g k", n/1e3)
	case n >= 100:
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// fleetTable is what fleets look like, and cost in a month.
func (f *future) fleetTable() string {
	return aligned(func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "scenario\tclients\tfleet\tdatabases\tnodes\tprimaries\treplicas\tMiB of a node\tGbit/s to clients\tmachines, $\ttraffic, $\tmachines per million, $\t")
		for _, r := range f.Rows {
			p, e := r.Plan, r.Plan.Expect
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d × %d vCPU\t%d × %d vCPU\t%.0f\t%.2g\t%s\t%s\t%s\t\n",
				r.Scenario, count(float64(r.Clients)), r.Variant, p.Shards, p.Shards*p.Fleet.Nodes, p.Shards, p.Fleet.PrimaryCores,
				p.Shards*p.Fleet.Replicas, p.Fleet.ReplicaCores*min(1, p.Fleet.Replicas), e.NodeMemory/(1<<20), float64(p.Shards)*e.ToClients*8/1e9,
				count(r.Money.machines()), count(r.Money.Traffic), count(r.Money.machines()/float64(r.Clients)*1e6))
		}
	})
}

// loadTable is what fleets have to do, and what clients wait for.
func (f *future) loadTable() string {
	return aligned(func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "scenario\tclients\tfleet\tcommits/s\tnotices/s\trefetches/s\tstatements/s\tprimary\twalsender\tfeed\tnode\ttold p50\tp99\trefetched p50\tp99, ms\t")
		for _, r := range f.Rows {
			p, e := r.Plan, r.Plan.Expect
			s, nodes := float64(p.Shards), float64(p.Fleet.Nodes)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f%%\t%.0f%%\t%.0f%%\t%.0f%%\t%.0f\t%.0f\t%.0f\t%.0f\t\n",
				r.Scenario, count(float64(r.Clients)), r.Variant,
				count(s*p.Load.Commits), count(s*nodes*e.Frames), count(s*nodes*e.Calls), count(s*e.Statements),
				100*e.Primary/float64(p.Fleet.PrimaryCores), 100*e.Walsender, 100*max(e.Feed, e.Holder), 100*e.Streams/float64(p.Fleet.Cores),
				r.Told50, r.Told99, r.Fresh50, r.Fresh99)
		}
	})
}

// breakTable is what gives out first.
func (f *future) breakTable() string {
	names := []string{sim.ThePrimary, sim.TheWalsender, sim.TheFeed, sim.TheHolder, sim.TheBus}
	return aligned(func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "clients of one database until this is %.0f%% busy\t\t%s\tfirst\t\n", 100*f.Limits.Busy, strings.Join(names, "\t"))
		for _, b := range f.Breaks {
			fmt.Fprintf(w, "%s\t%s\t", b.Scenario, b.Variant)
			first := ""
			for _, name := range names {
				at, ok := b.At[name]
				if !ok {
					fmt.Fprint(w, "–\t")
					continue
				}
				fmt.Fprintf(w, "%s\t", count(float64(at)))
				if first == "" || at < b.At[first] {
					first = name
				}
			}
			fmt.Fprintf(w, "%s\t\n", first)
		}
	})
}

func (f *future) readme() string {
	var b strings.Builder
	m := f.measured
	fmt.Fprintf(&b, "# Fleets on paper, %s\n%s\n![Nodes, the primary's CPUs and dollars, by number of clients](scale.svg)\n\n", f.Time.Format("2 January 2006"),
		m.Machine.Warning(m.Machine.Busy))
	for _, s := range scenarios {
		fmt.Fprintf(&b, "- **%s**: %s.\n", s.name, s.about)
	}
	for _, v := range variants {
		fmt.Fprintf(&b, "- *%s*: %s.\n", v.name, v.about)
	}
	fmt.Fprintf(&b, "\n```\n%s```\n\nMoney is a month's, by list prices ([assume.go](../../scale/assume.go)).\n\n```\n%s```\n\nShares of CPU are of one primary, one walsender's core, the core of a node's feed (with a relay, of the node that decodes for all, if that is more), and a node's other cores; times are from COMMIT's return to the client, which is %.0f ms away.\n\n```\n%s```\n\n",
		f.fleetTable(), f.loadTable(), f.Costs.Network/1000, f.breakTable())
	fmt.Fprintf(&b, "## Measured and simulated\n\n```\n%s```\n\nThe first of them are of %s, with costs from other cells of the same run; the rest are older results, of a quiet machine, with costs that are older, too ([compare.go](../../scale/compare.go)). How long a client itself takes to be woken and to read its answer isn't simulated, nor is whatever makes a tail.\n\n", f.comparisonTable(), m.Machine)
	b.WriteString(m.nodesText())
	b.WriteString("\n" + f.cellsTable())
	fmt.Fprintf(&b, "\nCosts, as simulated: `%+v`\n", f.Costs)
	fmt.Fprintf(&b, "\n| | |\n|---|---|\n| Command | `%s`, seed %d, commit %s |\n| Measured by | `%s`, commit %s, %s |\n| Machine | %v; %.2f CPUs busy with other things before the start |\n| Database | PostgreSQL %s, %v |\n| NATS | %s |\n",
		f.Command, f.Options.Seed, f.Commit, m.Command, m.Commit, m.Program, m.Machine, m.Machine.Busy, m.Postgres.Version(), m.Postgres, m.NATS)
	b.WriteString("\nWhat is measured and simulated, and what isn't: [bench/scale](../../scale/doc.go), [its simulation](../../scale/sim/doc.go), [what is assumed](../../scale/assume.go) and [what costs are taken from](../../scale/fit.go).\n")
	return b.String()
}

// cellsTable has the medians of what was measured.
func (f *future) cellsTable() string {
	type kind struct {
		name    string
		nodes   int
		streams int
		rate    float64
		calls   string
	}
	var order []kind
	of := map[kind][]*cell{}
	for _, c := range f.measured.Cells {
		k := kind{c.Name, c.Nodes, c.Streams, c.Rate, c.Calls}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], c)
	}
	slices.SortStableFunc(order, func(a, b kind) int { return strings.Compare(a.name, b.name) })
	table := aligned(func(w *tabwriter.Writer) {
		fmt.Fprintln(w, "CPUs, medians\tnodes\tstreams each\tcommits/s\tcalls/s\tframes/s\tsnapshots/s\ta node\twalsenders\tgates\tprobes\tpools\twriters\t")
		for _, k := range order {
			median := func(get func(*cell) float64) float64 {
				var values []float64
				for _, c := range of[k] {
					values = append(values, get(c))
				}
				return rig.Median(values)
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t\n", strings.TrimSpace(k.name+" "+k.calls), k.nodes, k.streams,
				median(func(c *cell) float64 { return c.Commits }), median(func(c *cell) float64 { return c.Called }), median(func(c *cell) float64 { return c.Frames }),
				median(func(c *cell) float64 { return c.Snapshots }), median((*cell).nodeCPU),
				median(does(walsenders)), median(does(gates)), median(does(probes)), median(does(pools)), median(does(writing)))
		}
	})
	bus := ""
	if len(f.measured.Bus) > 0 {
		bus = "\n```\n" + aligned(func(w *tabwriter.Writer) {
			fmt.Fprintln(w, "nats-server: subscribers\tbytes\tmessages/s\tdelivered/s\tCPUs\t")
			for _, c := range f.measured.Bus {
				fmt.Fprintf(w, "%d\t%d\t%.0f\t%.0f\t%.4f\t\n", c.Subscribers, c.Bytes, c.Rate, c.Delivered, c.CPU)
			}
		}) + "```\n"
	}
	return "```\n" + table + "```\n" + bus
}
