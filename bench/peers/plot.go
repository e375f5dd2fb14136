package main

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
)

// plot draws a bar per server for each figure that has a title. It brings its
// own background and colours for light and dark.
func (r *report) plot() string {
	panelHeight := panelTop + barStep*float64(len(r.Options.Peers)) + 14
	height, panels := 64.0, 0
	for _, f := range figures {
		if f.title != "" {
			panels++
		}
	}
	height += panelHeight * float64(panels)
	const width = plotLeft + plotWidth + 90
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="Cost of fan-out">`, width, height, width, height)
	b.WriteString(plotStyle)
	fmt.Fprintf(&b, `<rect class="back" width="%g" height="%g"/>`, width, height)
	label(&b, "title", 16, 28, "start", "Telling connections that something has changed")
	label(&b, "", 16, 47, "start", r.Machine)
	top := 64.0
	for _, f := range figures {
		if f.title == "" {
			continue
		}
		r.panel(&b, top, f)
		top += panelHeight
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (r *report) panel(b *strings.Builder, top float64, f figure) {
	label(b, "head", 16, top+20, "start", f.title)
	most := 0.0
	for _, name := range r.Options.Peers {
		most = max(most, r.median(name, f))
	}
	for i, name := range r.Options.Peers {
		value := r.median(name, f)
		y := top + panelTop + barStep*float64(i)
		class := "bar"
		if strings.HasPrefix(name, "freshet") {
			class = "bar ours"
		}
		length := 0.0
		if most > 0 {
			length = max(0, plotWidth*value/most)
		}
		label(b, "", plotLeft-8, y+13, "end", name)
		fmt.Fprintf(b, `<rect class="%s" x="%g" y="%.1f" width="%.1f" height="%g"/>`, class, plotLeft, y, length, barHeight)
		label(b, "", plotLeft+length+6, y+13, "start", fmt.Sprintf(f.format, value))
	}
}

const plotStyle = `<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:16px;font-weight:600;fill:#1f2328}.head{font-size:13px;font-weight:600;fill:#1f2328}
.back{fill:#fff}.bar{fill:#afb8c1}.ours{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#9198a1}.title,.head{fill:#f0f6fc}.back{fill:#0d1117}.bar{fill:#484f58}.ours{fill:#58a6ff}}
</style>`

func label(b *strings.Builder, class string, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(s))
}
