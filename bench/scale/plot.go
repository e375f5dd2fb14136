package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/freshet-dev/freshet/bench/bars"
	"github.com/freshet-dev/freshet/bench/scale/sim"
)

// The picture's geometry, in pixels: a column per scenario.
const (
	cellWidth   = 330.0
	cellHeight  = 230.0
	cellLeft    = 58.0
	cellTop     = 46.0
	curveWidth  = cellWidth - cellLeft - 22
	curveHeight = cellHeight - cellTop - 42
	headHeight  = 92.0
)

// Clients of the curves.
const (
	fewest = 1000
	most   = 10_000_000
)

// panel is one figure over the number of clients.
type panel struct {
	title string
	lines []line
	limit float64 // a dashed line; 0: none
}

type line struct {
	class  string
	points [][2]float64
}

var drawn = []struct {
	variant
	class, text string
}{
	{plain, "plain", "identical nodes"},
	{affinity, "affinity", "a topic's followers on one node"},
	{all, "every", "and replicas and a relay"},
}

// panels of one scenario, from the top.
func (f *future) panels(s scenario) []panel {
	nodes := panel{title: "Nodes, of all databases' fleets"}
	cpus := panel{title: "CPUs asked of one primary", limit: f.Limits.Busy * float64(f.Limits.PrimaryCores[len(f.Limits.PrimaryCores)-1])}
	dollars := panel{title: "$ a month per million, machines only"}
	for _, v := range drawn {
		n, c, d := line{class: v.class}, line{class: v.class}, line{class: v.class}
		for x := float64(fewest); x < most*1.01; x *= math.Pow(10, 0.25) {
			clients := int(math.Round(x))
			if _, e, err := sim.Nodes(f.Costs, s.load(clients), v.want, f.Limits); err == nil {
				c.points = append(c.points, [2]float64{x, e.Primary})
			}
			if p, err := sim.Size(f.Costs, s.load(clients), v.want, f.Limits); err == nil {
				n.points = append(n.points, [2]float64{x, float64(p.Shards * p.Fleet.Nodes)})
				d.points = append(d.points, [2]float64{x, f.Prices.month(p, f.Limits).machines() / x * 1e6})
			}
		}
		nodes.lines, cpus.lines, dollars.lines = append(nodes.lines, n), append(cpus.lines, c), append(dollars.lines, d)
	}
	return []panel{nodes, cpus, dollars}
}

// plot draws small multiples, all axes logarithmic. It brings its own background and
// colours for light and dark.
func (f *future) plot() string {
	width, height := cellWidth*float64(len(scenarios)), headHeight+3*cellHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="Fleets by number of clients">`, width, height, width, height)
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="back" width="%g" height="%g"/>`, width, height)
	bars.Label(&b, "title", 16, 28, "start", "What fleets take, by number of clients")
	bars.Label(&b, "", 16, 47, "start", "Simulated, by costs measured on "+f.measured.Machine.String()+"; both axes logarithmic")
	at := 16.0
	for _, v := range drawn {
		fmt.Fprintf(&b, `<path class="%s" d="M%.0f 68h24"/>`, v.class, at)
		bars.Label(&b, "", at+30, 72, "start", v.text)
		at += 60 + 7*float64(len(v.text))
	}
	fmt.Fprintf(&b, `<path class="limit" d="M%.0f 68h24"/>`, at)
	bars.Label(&b, "", at+30, 72, "start", fmt.Sprintf("%.0f%% of the largest machine", 100*f.Limits.Busy))
	for i, s := range scenarios {
		for j, p := range f.panels(s) {
			if j == 0 {
				p.title = strings.ToUpper(s.name[:1]) + s.name[1:] + ": " + strings.ToLower(p.title[:1]) + p.title[1:]
			}
			p.draw(&b, cellWidth*float64(i), headHeight+cellHeight*float64(j))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, left, top float64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range p.lines {
		for _, at := range l.points {
			low, high = min(low, at[1]), max(high, at[1])
		}
	}
	if p.limit > 0 {
		high = max(high, p.limit)
	}
	bottom, top2 := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high)+1e-9)
	x := func(v float64) float64 {
		return left + cellLeft + curveWidth*math.Log10(v/fewest)/math.Log10(most/fewest)
	}
	y := func(v float64) float64 {
		return top + cellTop + curveHeight*(1-(math.Log10(v)-bottom)/(top2-bottom))
	}
	fmt.Fprintf(b, `<g><rect class="frame" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, left+cellLeft, top+cellTop, curveWidth, curveHeight)
	bars.Label(b, "head", left+16, top+30, "start", p.title)
	for power := bottom; power <= top2; power++ {
		v := math.Pow(10, power)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fh%.1f"/>`, left+cellLeft, y(v), curveWidth)
		bars.Label(b, "", left+cellLeft-6, y(v)+4, "end", short(v))
	}
	for v := float64(fewest); v <= most; v *= 10 {
		bars.Label(b, "", x(v), top+cellTop+curveHeight+16, "middle", short(v))
	}
	if p.limit > 0 {
		fmt.Fprintf(b, `<path class="limit" d="M%.1f %.1fh%.1f"/>`, left+cellLeft, y(p.limit), curveWidth)
	}
	for _, l := range p.lines {
		var d strings.Builder
		for i, at := range l.points {
			d.WriteString(map[bool]string{true: "M", false: "L"}[i == 0])
			fmt.Fprintf(&d, "%.1f %.1f", x(at[0]), y(at[1]))
		}
		fmt.Fprintf(b, `<path class="%s" d="%s"/>`, l.class, d.String())
	}
	b.WriteString("</g>")
}

// short writes a power of ten.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.0fM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

const style = `<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:16px;font-weight:600;fill:#1f2328}.head{font-size:13px;font-weight:600;fill:#1f2328}
.back{fill:#fff}.frame{fill:none;stroke:#d0d7de}.grid{stroke:#eaeef2}path{fill:none}
.plain,.affinity,.every{stroke-width:2}.plain{stroke:#afb8c1}.affinity{stroke:#bf8700}.every{stroke:#0969da}.limit{stroke:#cf222e;stroke-dasharray:5 4}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head{fill:#f0f6fc}.back{fill:#0d1117}.frame{stroke:#30363d}.grid{stroke:#21262d}
.plain{stroke:#6e7681}.affinity{stroke:#d29922}.every{stroke:#58a6ff}.limit{stroke:#f85149}}
</style>`
