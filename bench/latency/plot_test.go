package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// paths returns the drawn curves as points, and fails unless svg is well formed
// and every point lies within the axes.
func paths(t *testing.T, svg string) (curves [][][2]float64) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return curves
		}
		require.NoError(t, err)
		element, ok := token.(xml.StartElement)
		if !ok || element.Name.Local != "path" {
			continue
		}
		attributes := map[string]string{}
		for _, a := range element.Attr {
			attributes[a.Name.Local] = a.Value
		}
		if !strings.HasPrefix(attributes["class"], "line") || strings.Contains(attributes["d"], "h") {
			continue // a grid line, or the legend's
		}
		var points [][2]float64
		for _, field := range strings.FieldsFunc(attributes["d"], func(r rune) bool { return r == 'M' || r == 'L' }) {
			xy := strings.Fields(field)
			require.Len(t, xy, 2)
			var p [2]float64
			for i := range p {
				p[i], err = strconv.ParseFloat(xy[i], 64)
				require.NoError(t, err)
			}
			require.GreaterOrEqual(t, p[0], plotLeft)
			require.LessOrEqual(t, p[0], plotLeft+plotWidth)
			require.GreaterOrEqual(t, p[1], plotTop)
			require.LessOrEqual(t, p[1], plotBottom)
			points = append(points, p)
		}
		curves = append(curves, points)
	}
}

func TestPlotSVG_curvesAscend(t *testing.T) {
	curves := paths(t, plotSVG("a <title> & more", "note", []panel{
		{Title: "one", Curves: []curve{{Label: "x", Values: ascending(5000)}, {Label: "y", Values: ascending(20)}}},
		{Title: "two", Curves: []curve{{Label: "z", Values: []millis{3, 1, 2}}}},
	}))
	require.Len(t, curves, 3)
	for _, points := range curves {
		require.NotEmpty(t, points)
		for i := 1; i < len(points); i++ {
			require.Greater(t, points[i][0], points[i-1][0])
			require.LessOrEqual(t, points[i][1], points[i-1][1]) // y grows downwards
		}
	}
	end := func(i int) float64 { return curves[i][len(curves[i])-1][0] }
	require.InDelta(t, plotLeft+plotWidth, end(0), 1, "5,000 samples reach p99.9")
	require.LessOrEqual(t, end(1), xOf(0.95)+1, "20 samples know nothing beyond p95")
}

// What a logarithm can't take is drawn on the floor, nowhere else.
func TestPlotSVG_zeroNegativeAndNothing(t *testing.T) {
	svg := plotSVG("t", "", []panel{{Title: "p", Curves: []curve{
		{Label: "below", Values: []millis{-3, -2, 0, 0}},
		{Label: "none"},
		{Label: "fine", Values: []millis{0.5, 40}},
	}}})
	require.NotContains(t, svg, "NaN")
	require.NotContains(t, svg, "Inf")
	curves := paths(t, svg)
	require.Len(t, curves, 3)
	for _, p := range curves[0] {
		require.InDelta(t, plotBottom, p[1], 0.01)
	}
	require.Empty(t, curves[1])
	require.NotContains(t, plotSVG("t", "", nil), "NaN")
}

func TestXOf_eachNineTakesTheSameRoom(t *testing.T) {
	require.InDelta(t, plotLeft, xOf(0), 1e-9)
	nine := xOf(0.9) - xOf(0)
	require.InDelta(t, nine, xOf(0.99)-xOf(0.9), 1e-6)
	require.InDelta(t, nine, xOf(0.999)-xOf(0.99), 1e-6)
	require.InDelta(t, plotLeft+plotWidth, xOf(0.99999), 1e-9)
	require.InDelta(t, plotLeft+plotWidth, xOf(1), 1e-9)
}

func TestDecades(t *testing.T) {
	one := func(values ...millis) (low, high float64) {
		return decades([]panel{{Curves: []curve{{Values: values}}}})
	}
	low, high := one(0.3, 45)
	require.Equal(t, [2]float64{-1, 2}, [2]float64{low, high})
	low, high = one(0, 0.000001)
	require.Equal(t, [2]float64{-2, -1}, [2]float64{low, high})
	low, high = decades(nil)
	require.Less(t, low, high)
	require.False(t, math.IsInf(low, 0))
}
