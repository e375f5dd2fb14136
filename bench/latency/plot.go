package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// panel is one plot: a distribution per line.
type panel struct {
	Title  string
	Curves []curve
}

type curve struct {
	Label  string
	Values []millis
}

// The picture's geometry, in pixels.
const (
	panelWidth  = 470.0
	plotWidth   = 380.0
	plotHeight  = 300.0
	plotLeft    = 62.0
	plotTop     = 96.0
	plotBottom  = plotTop + plotHeight
	totalHeight = plotBottom + 64
	nines       = 3.0 // the x axis ends at 99.9 %
)

// plotSVG draws percentiles: x is the share of samples, stretched so that each
// further nine takes as much room as the one before (-log10(1-share)), since
// what matters is the tail; y is milliseconds, logarithmic. It brings its own
// background and colours for light and dark.
func plotSVG(title, subtitle string, panels []panel) string {
	low, high := decades(panels)
	width := panelWidth * float64(len(panels))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="%s">`,
		width, totalHeight, width, totalHeight, html.EscapeString(title))
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="back" width="%g" height="%g"/>`, width, totalHeight)
	text(&b, "title", 20, 28, "start", title)
	text(&b, "note", 20, 47, "start", subtitle)
	if len(panels) > 0 {
		panels[0].legend(&b)
	}
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%g 0)">`, panelWidth*float64(i))
		p.draw(&b, low, high)
		b.WriteString("</g>")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

const style = `<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:16px;font-weight:600;fill:#1f2328}.head{font-size:13px;font-weight:600;fill:#1f2328}
.back{fill:#fff}.grid{stroke:#d8dee4;stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round}
.s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#8250df;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head{fill:#f0f6fc}.back{fill:#0d1117}.grid{stroke:#30363d}.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#bc8cff}}
</style>`

func (p panel) draw(b *strings.Builder, low, high float64) {
	y := func(ms float64) float64 {
		at := (math.Log10(ms) - low) / (high - low)
		return plotBottom - plotHeight*min(max(at, 0), 1)
	}
	text(b, "head", plotLeft, plotTop-14, "start", p.Title)
	for decade := low; decade <= high; decade++ {
		at := y(math.Pow(10, decade))
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fh%g"/>`, plotLeft, at, plotWidth)
		text(b, "", plotLeft-8, at+4, "end", strconv.FormatFloat(math.Pow(10, decade), 'g', -1, 64)+" ms")
	}
	for _, share := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
		at := xOf(share)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fv%g"/>`, at, plotTop, plotHeight)
		text(b, "", at, plotBottom+18, "middle", "p"+strconv.FormatFloat(math.Round(share*1e4)/100, 'g', -1, 64))
	}
	for i, c := range p.Curves {
		class := fmt.Sprintf("line s%d", i%3)
		fmt.Fprintf(b, `<path class="%s" d="%s"/>`, class, c.path(y))
	}
}

// legend is one for all panels, whose curves are the same quantities.
func (p panel) legend(b *strings.Builder) {
	for i, c := range p.Curves {
		left := plotLeft + 290*float64(i)
		fmt.Fprintf(b, `<path class="line s%d" d="M%.1f %.1fh24"/>`, i%3, left, plotBottom+44)
		text(b, "", left+31, plotBottom+48, "start", c.Label)
	}
}

func xOf(share float64) float64 {
	return plotLeft + plotWidth*min(-math.Log10(1-share)/nines, 1)
}

// path is the curve's line. Beyond the last share that a sample stands for
// there is nothing to draw.
func (c curve) path(y func(float64) float64) string {
	if len(c.Values) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(c.Values))
	var d strings.Builder
	const steps = 300
	for i := range steps + 1 {
		share := 1 - math.Pow(10, -nines*float64(i)/steps)
		if share > 1-1/float64(len(sorted)) && i > 0 {
			break
		}
		command := "L"
		if i == 0 {
			command = "M"
		}
		// Zero and less have no place on a logarithmic axis: they lie on its floor.
		ms := max(float64(quantile(sorted, share)), math.SmallestNonzeroFloat64)
		fmt.Fprintf(&d, "%s%.1f %.1f", command, xOf(share), y(ms))
	}
	return d.String()
}

// decades are the powers of ten that the y axis begins and ends with: what is
// drawn fits, and the floor is at least 0.01 ms.
func decades(panels []panel) (low, high float64) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, p := range panels {
		for _, c := range p.Curves {
			sorted := slices.Sorted(slices.Values(c.Values))
			if len(sorted) > 0 {
				least = min(least, float64(quantile(sorted, 0.01)))
				most = max(most, float64(quantile(sorted, 0.999)))
			}
		}
	}
	if math.IsInf(least, 1) {
		return -1, 1
	}
	low = math.Floor(math.Log10(max(least, 0.01)))
	return low, max(math.Ceil(math.Log10(max(most, 0.01))), low+1)
}

func text(b *strings.Builder, class string, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(s))
}
