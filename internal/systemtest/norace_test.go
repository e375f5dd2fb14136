//go:build !race

package systemtest_test

// slowdown divides counts; see race_test.go.
const slowdown = 1
