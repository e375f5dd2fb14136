package check

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
)

// SVG draws the histograms of both latencies: a bar per bucket, each twice as
// wide as the one before in time. It brings colours for light and dark.
func (r *Report) SVG() string {
	const width, height, left, top, plot = 860, 330, 20, 70, 200
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Latency of notices and of refetched data">`,
		width, height, width, height)
	b.WriteString(`<style>text{font:11px system-ui,sans-serif;fill:#57606a}.head{font-size:14px;font-weight:600;fill:#1f2328}.back{fill:#fff}.bar{fill:#0969da}` +
		`@media (prefers-color-scheme:dark){text{fill:#9198a1}.head{fill:#f0f6fc}.back{fill:#0d1117}.bar{fill:#58a6ff}}</style>`)
	fmt.Fprintf(&b, `<rect class="back" width="%d" height="%d"/>`, width, height)
	for n, l := range r.latencies() {
		fmt.Fprintf(&b, `<g transform="translate(%d 0)">`, left+n*width/2)
		fmt.Fprintf(&b, `<text class="head" y="26">%s</text>`, html.EscapeString(l.name))
		fmt.Fprintf(&b, `<text y="46">%s</text>`, html.EscapeString(fmt.Sprintf("n %d, p50 %s, p99 %s, p99.9 %s, max %s",
			l.N, short(l.P50), short(l.P99), short(l.P999), short(l.Max))))
		first, last := occupied(l.Latency)
		if first >= 0 {
			most := slices.Max(l.Buckets)
			step := float64(width/2-2*left) / float64(last-first+1)
			for i := first; i <= last; i++ {
				x, tall := step*float64(i-first), float64(plot)*float64(l.Buckets[i])/float64(most)
				fmt.Fprintf(&b, `<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>up to %s: %d</title></rect>`,
					x, float64(top+plot)-tall, step*0.85, tall, short(bucketEnd(i)), l.Buckets[i])
				fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x+step*0.425, top+plot+18, tick(bucketEnd(i)))
			}
		}
		fmt.Fprintf(&b, `<text y="%d">since COMMIT returned, in ms (s where it says so), up to</text></g>`, top+plot+38)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// tick is a label short enough to stand under a bar.
func tick(end time.Duration) string {
	switch ms := end.Seconds() * 1000; {
	case ms >= 1000:
		return fmt.Sprintf("%.0fs", ms/1000)
	case ms >= 1:
		return fmt.Sprintf("%.0f", ms)
	default:
		return map[float64]string{0.125: "⅛", 0.25: "¼", 0.5: "½"}[ms]
	}
}
