//go:build !race

package conformance_test

// underRace: the race detector looks on.
const underRace = false
