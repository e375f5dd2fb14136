// Package bars draws figures of benchmarks as horizontal bars, in SVG. It uses
// the standard library only.
package bars

import (
	"fmt"
	"html"
	"strings"
)

// The picture's geometry, in pixels.
const (
	plotLeft  = 130.0
	plotWidth = 330.0
	barHeight = 18.0
	barStep   = 24.0
	panelTop  = 34.0
	width     = plotLeft + plotWidth + 90
)

// Panel is one figure: a bar per thing that is compared.
type Panel struct {
	Title string
	Bars  []Bar
}

// Bar is one value, drawn relative to the panel's highest.
type Bar struct {
	Label string
	Value float64
	Text  string // how the value reads
	Ours  bool   // stands out
}

// SVG draws panels below each other. It brings its own background and colours
// for light and dark.
func SVG(name, title, subtitle string, panels []Panel) string {
	height := 64.0
	for _, p := range panels {
		height += p.height()
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="%s">`,
		width, height, width, height, html.EscapeString(name))
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="back" width="%g" height="%g"/>`, width, height)
	Label(&b, "title", 16, 28, "start", title)
	Label(&b, "", 16, 47, "start", subtitle)
	top := 64.0
	for _, p := range panels {
		p.draw(&b, top)
		top += p.height()
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p Panel) height() float64 { return panelTop + barStep*float64(len(p.Bars)) + 14 }

func (p Panel) draw(b *strings.Builder, top float64) {
	Label(b, "head", 16, top+20, "start", p.Title)
	most := 0.0
	for _, bar := range p.Bars {
		most = max(most, bar.Value)
	}
	for i, bar := range p.Bars {
		y := top + panelTop + barStep*float64(i)
		class := "bar"
		if bar.Ours {
			class = "bar ours"
		}
		length := 0.0
		if most > 0 {
			length = max(0, plotWidth*bar.Value/most)
		}
		Label(b, "", plotLeft-8, y+13, "end", bar.Label)
		fmt.Fprintf(b, `<rect class="%s" x="%g" y="%.1f" width="%.1f" height="%g"/>`, class, plotLeft, y, length, barHeight)
		Label(b, "", plotLeft+length+6, y+13, "start", bar.Text)
	}
}

const style = `<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:16px;font-weight:600;fill:#1f2328}.head{font-size:13px;font-weight:600;fill:#1f2328}
.back{fill:#fff}.bar{fill:#afb8c1}.ours{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head{fill:#f0f6fc}.back{fill:#0d1117}.bar{fill:#484f58}.ours{fill:#58a6ff}}
</style>`

// Label writes a text of an SVG; anchor is start, middle or end.
func Label(b *strings.Builder, class string, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(s))
}
