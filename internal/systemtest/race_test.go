//go:build race

package systemtest_test

// slowdown divides counts: under the race detector everything takes ten times
// as long.
const slowdown = 10
