package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-dev/freshet/bench/bars"
)

// The picture's geometry, in pixels: panels in rows of three.
const (
	cellWidth   = 330.0
	cellHeight  = 250.0
	cellLeft    = 62.0
	cellTop     = 56.0
	curveWidth  = cellWidth - cellLeft - 24
	curveHeight = cellHeight - cellTop - 44
	inARow      = 3
	headHeight  = 84.0
)

// small is one panel: a quantity over a sweep, a line per server.
type small struct {
	title, axis string
	xs          []float64
	lines       [][]float64
	rise        string
}

// panels are what is drawn.
func (r *scaling) panels() []small {
	var all []small
	for _, s := range r.sweeps() {
		for _, q := range s.curves {
			if !q.drawn {
				continue
			}
			p := small{title: strings.ToUpper(q.head[:1]) + q.head[1:], axis: s.axis, xs: r.places(s)}
			for _, peer := range s.peers {
				p.lines = append(p.lines, r.values(s, peer, q))
			}
			p.rise = fmt.Sprintf("cost of a unit rises by × %.2f at most", steepest(p.xs, p.lines[0]))
			all = append(all, p)
		}
	}
	return all
}

// plot draws small multiples, all axes logarithmic, so that what is linear is a
// straight line of the dashed one's slope. It brings its own background and
// colours for light and dark.
func (r *scaling) plot() string {
	panels := r.panels()
	rows := (len(panels) + inARow - 1) / inARow
	const width = inARow * cellWidth
	height := headHeight + float64(rows)*cellHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="Scaling curves">`, width, height, width, height)
	b.WriteString(curvesStyle)
	fmt.Fprintf(&b, `<rect class="back" width="%g" height="%g"/>`, width, height)
	bars.Label(&b, "title", 16, 28, "start", "How the cost of the stream grows")
	bars.Label(&b, "", 16, 47, "start", r.Machine+"; both axes logarithmic")
	legend := 16.0
	for _, l := range []struct{ class, text string }{
		{"line ours", "Freshet"}, {"line other", "bare write(2) loop"}, {"line linear", "linear, from the first point"},
	} {
		fmt.Fprintf(&b, `<path class="%s" d="M%.1f 66h24"/>`, l.class, legend)
		bars.Label(&b, "", legend+31, 70, "start", l.text)
		legend += 60 + 7*float64(len(l.text))
	}
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%g %g)">`, cellWidth*float64(i%inARow), headHeight+cellHeight*float64(i/inARow))
		p.draw(&b)
		b.WriteString("</g>")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

const curvesStyle = `<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:16px;font-weight:600;fill:#1f2328}.head{font-size:13px;font-weight:600;fill:#1f2328}
.back{fill:#fff}.grid{stroke:#d8dee4}.line{fill:none;stroke-width:2;stroke-linejoin:round}.ours{stroke:#0969da}.other{stroke:#afb8c1}.dot{fill:#0969da}
.linear{stroke:#57606a;stroke-width:1;stroke-dasharray:4 4}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head{fill:#f0f6fc}.back{fill:#0d1117}.grid{stroke:#30363d}.ours{stroke:#58a6ff}.other{stroke:#484f58}.dot{fill:#58a6ff}.linear{stroke:#9198a1}}
</style>`

func (p small) draw(b *strings.Builder) {
	bars.Label(b, "head", 16, 20, "start", p.title)
	bars.Label(b, "", 16, 38, "start", p.rise)
	bars.Label(b, "", cellLeft+curveWidth/2, cellTop+curveHeight+36, "middle", p.axis)
	xLow, xHigh := decadesOf(p.xs)
	yLow, yHigh := decadesOf(p.lines...)
	x := func(v float64) float64 { return cellLeft + curveWidth*(math.Log10(v)-xLow)/(xHigh-xLow) }
	y := func(v float64) float64 {
		if v <= 0 { // memory within noise: on the floor
			return cellTop + curveHeight
		}
		return cellTop + curveHeight*(1-(math.Log10(v)-yLow)/(yHigh-yLow))
	}
	for d := yLow; d <= yHigh; d++ {
		at := y(math.Pow(10, d))
		fmt.Fprintf(b, `<path class="grid" d="M%g %.1fh%g"/>`, cellLeft, at, curveWidth)
		bars.Label(b, "", cellLeft-8, at+4, "end", power(d))
	}
	for d := xLow; d <= xHigh; d++ {
		at := x(math.Pow(10, d))
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %gv%g"/>`, at, cellTop, curveHeight)
		bars.Label(b, "", at, cellTop+curveHeight+18, "middle", power(d))
	}
	ours := p.lines[0]
	if ours[0] > 0 { // to the panel's edge, whichever comes first
		further := min(math.Pow(10, xHigh)/p.xs[0], math.Pow(10, yHigh)/ours[0])
		fmt.Fprintf(b, `<path class="line linear" d="M%.1f %.1fL%.1f %.1f"/>`, x(p.xs[0]), y(ours[0]), x(p.xs[0]*further), y(ours[0]*further))
	}
	for i, line := range slices.Backward(p.lines) { // ours on top
		class := "line ours"
		if i > 0 {
			class = "line other"
		}
		fmt.Fprintf(b, `<path class="%s" d="`, class)
		for j, v := range line {
			command := "L"
			if j == 0 {
				command = "M"
			}
			fmt.Fprintf(b, "%s%.1f %.1f", command, x(p.xs[j]), y(v))
		}
		b.WriteString(`"/>`)
	}
	for j, v := range ours {
		fmt.Fprintf(b, `<circle class="dot" cx="%.1f" cy="%.1f" r="3"/>`, x(p.xs[j]), y(v))
	}
}

// decadesOf are the powers of ten that an axis begins and ends with.
func decadesOf(lines ...[]float64) (low, high float64) {
	least, most := math.Inf(1), 0.0
	for _, values := range lines {
		for _, v := range values {
			if v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
	}
	if most == 0 {
		return 0, 1
	}
	low = math.Floor(math.Log10(least))
	return low, max(math.Ceil(math.Log10(most)), low+1)
}

// power is ten to the power of d, short.
func power(d float64) string {
	switch {
	case d >= 6:
		return strconv.FormatFloat(math.Pow(10, d-6), 'f', -1, 64) + "M"
	case d >= 3:
		return strconv.FormatFloat(math.Pow(10, d-3), 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(math.Pow(10, d), 'g', 3, 64)
}
