package bars

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSVG(t *testing.T) {
	svg := SVG("name", "a <title> & more", "note", []Panel{
		{Title: "one", Bars: []Bar{{Label: "x", Value: 10, Text: "10"}, {Label: "y", Value: 5, Text: "5 <", Ours: true}}},
		{Title: "nothing", Bars: []Bar{{Label: "z"}, {Label: "less", Value: -1}}},
	})
	var lengths []string
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "well formed")
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
			for _, a := range element.Attr {
				if a.Name.Local == "width" {
					lengths = append(lengths, a.Value)
				}
			}
		}
	}
	require.Equal(t, []string{"550", "330.0", "165.0", "0.0", "0.0"}, lengths)
	require.Equal(t, 1, strings.Count(svg, `class="bar ours"`))
}
