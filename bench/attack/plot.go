package main

import (
	"fmt"

	"github.com/freshet-dev/freshet/bench/bars"
)

// plot draws latencies by part, and memory by minute.
func plot(o *options, parts []part) string {
	panels := []bars.Panel{{Title: "p50 of a call, ms"}, {Title: "p99 of a call, ms"}, {Title: "resident by minute, MiB"}}
	for _, p := range parts {
		for i, q := range []float64{0.5, 0.99} {
			v := p.calls.quantile(q)
			panels[i].Bars = append(panels[i].Bars, bars.Bar{Label: p.name, Value: v, Text: fmt.Sprintf("%.2f", v), Ours: p.attacked})
		}
		for n, v := range p.memory.minutes() {
			panels[2].Bars = append(panels[2].Bars, bars.Bar{Label: fmt.Sprintf("%s, %d", p.name, n+1), Value: v, Text: fmt.Sprintf("%.0f", v), Ours: p.attacked})
		}
	}
	return bars.SVG("attackers", "What those who behave notice of attackers",
		fmt.Sprintf("%d streams, %.0f calls a second", o.Streams, o.Rate), panels)
}
