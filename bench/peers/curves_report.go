package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scaling is everything that a run of curves found; results.json is it.
type scaling struct {
	Time    time.Time             `json:"time"`
	Took    string                `json:"took"`
	Command string                `json:"command"`
	Commit  string                `json:"commit"`
	Machine string                `json:"machine"`
	Options curvesOptions         `json:"options"`
	Loads   []string              `json:"load_averages"` // after each sweep of each round
	Points  map[string][][]*point `json:"points"`        // of a sweep's key: by place, by round
}

// noise is by how much the cost of a unit may rise from a point to another of a
// curve that is linear: a short point is good to some 15 %, and there are two.
const noise = 1.3

func (s sweep) key(peer string) string { return s.name + "/" + peer }

// sweeps are those that were asked for.
func (r *scaling) sweeps() []sweep {
	return slices.DeleteFunc(sweeps(), func(s sweep) bool { return !slices.Contains(r.Options.Sweeps, s.name) })
}

// values of a curve: the median over the rounds, by place.
func (r *scaling) values(s sweep, peer string, q quantity) []float64 {
	values := make([]float64, 0, len(s.xs))
	for _, rounds := range r.Points[s.key(peer)] {
		of := make([]float64, 0, len(rounds))
		for _, m := range rounds {
			of = append(of, q.of(m))
		}
		values = append(values, median(of))
	}
	return values
}

// places are the xs of a sweep as they were measured.
func (r *scaling) places(s sweep) []float64 {
	xs := make([]float64, len(s.xs))
	for i, x := range s.xs {
		xs[i] = float64(x)
		if s.name == "connections" || s.name == "subscribers" {
			xs[i] = float64(min(x, r.Options.Most))
		}
	}
	return xs
}

// steepest is the greatest factor by which the cost of one unit rises from a
// point to a later one: 1 where all is linear or better. What costs nothing at
// first, to the precision of the clock, has no unit's cost.
func steepest(xs, ys []float64) float64 {
	most := 1.0
	for i := range xs {
		for j := i + 1; j < len(xs); j++ {
			if ys[i] > 0 && xs[j] > xs[i] {
				most = max(most, (ys[j]/xs[j])/(ys[i]/xs[i]))
			}
		}
	}
	return most
}

// verdict says in words how a curve grows.
func verdict(xs, ys []float64) string {
	rise := steepest(xs, ys)
	grown, by := xs[len(xs)-1]/xs[0], ys[len(ys)-1]/max(ys[0], 1e-9)
	worse := "no"
	if rise > noise {
		worse = "**yes**"
	}
	return fmt.Sprintf("%s | %s × | %s × | %.2f × |", worse, digits(grown), digits(by), rise)
}

// digits are three of a number, or all that stand before its point.
func digits(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// verdicts is one line per curve, in Markdown.
func (r *scaling) verdicts() string {
	var b strings.Builder
	b.WriteString("| over | cost | worse than linear | grows from end to end | the cost meanwhile | of one unit, at most |\n|---|---|---|---:|---:|---:|\n")
	for _, s := range r.sweeps() {
		for _, peer := range s.peers {
			for _, q := range s.curves {
				if !q.drawn {
					continue
				}
				fmt.Fprintf(&b, "| %s | %s%s | %s\n", s.axis, q.head, others(s, peer), verdict(r.places(s), r.values(s, peer, q)))
			}
		}
	}
	return b.String()
}

// others names a peer that isn't the sweep's first.
func others(s sweep, peer string) string {
	if peer == s.peers[0] {
		return ""
	}
	return " (" + peer + ")"
}

// tables has a table per sweep, in Markdown.
func (r *scaling) tables() string {
	var b strings.Builder
	for _, s := range r.sweeps() {
		fmt.Fprintf(&b, "**%s**: %s.\n\n| %s |", s.name, s.about, s.axis)
		columns := 0
		for _, peer := range s.peers {
			for _, q := range s.curves {
				fmt.Fprintf(&b, " %s%s |", q.head, others(s, peer))
				columns++
			}
		}
		b.WriteString("\n|" + strings.Repeat("---:|", columns+1) + "\n")
		for i, x := range r.places(s) {
			fmt.Fprintf(&b, "| %.0f |", x)
			for _, peer := range s.peers {
				for _, q := range s.curves {
					fmt.Fprintf(&b, " "+q.format+" |", r.values(s, peer, q)[i])
				}
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// kept is the lowest share of its rate that a publisher kept.
func (r *scaling) kept() float64 {
	least := 1.0
	for _, places := range r.Points {
		for _, rounds := range places {
			for _, m := range rounds {
				if m.Kept > 0 {
					least = min(least, m.Kept)
				}
			}
		}
	}
	return least
}

func (r *scaling) readme() string {
	return fmt.Sprintf(`# Scaling curves, %s

![Cost over what grows](curves.svg)

%s
A curve is worse than linear when the cost of one unit (a connection, a write a second) rises from one of its points to a later one by more than %.1f × ("of one unit, at most"); the dashed line in the plot is what linear growth from the first point would be.

%sMedians of %d rounds, points of %v or more, each a server and readers in processes of their own that share the machine; times until delivery hold the readers' waiting too, CPU time doesn't. Memory is the server's above that with one connection, or with an empty table; the kernel's sockets aren't in it. "floor" is a bare `+"`write(2)`"+` loop, and has no part in the verdict on Freshet. Frames are per notice and connection that is to be told; below 1 some were merged. Publishers kept %.2f of their rates or more.

| | |
|---|---|
| Command | `+"`%s`"+` |
| Took | %s |
| Commit | %s |
| Machine | %s |
| Load averages meanwhile | %s |

What is measured, and how, is in [the program's comment](../../peers/main.go) and its [sweeps](../../peers/curves.go).
`, r.Time.Format("2 January 2006"), r.verdicts(), noise, r.tables(), r.Options.Rounds, r.Options.Duration, r.kept(),
		r.Command, r.Took, r.Commit, r.Machine, loadRange(r.Loads))
}

// save writes the folder of results.
func (r *scaling) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFolder(dir, map[string]string{
		"README.md": r.readme(), "results.json": string(data) + "\n", "curves.svg": r.plot(),
	})
}
