package rig

import (
	"math"
	"slices"
)

// Median sorts values. Of an even number it is the mean of the middle two; of
// none it is NaN.
func Median[T ~float64](values []T) T {
	if len(values) == 0 {
		return T(math.NaN())
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
