package testkit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
)

// Example returns as much of a testing.TB as is needed to make a database, for an
// Example, which has none, and what ends it.
func Example() (t testing.TB, end func()) {
	e := new(exampleTB)
	return e, e.end
}

type exampleTB struct {
	testing.TB // nil: there is no test
	cleanups   []func()
}

func (t *exampleTB) Helper()                   {}
func (t *exampleTB) Failed() bool              { return false }
func (t *exampleTB) Name() string              { return "Example" }
func (t *exampleTB) Context() context.Context  { return context.Background() }
func (t *exampleTB) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Errorf(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }
func (t *exampleTB) FailNow()                  { panic("there is no database for the example: see above") }

func (t *exampleTB) end() {
	for _, cleanup := range slices.Backward(t.cleanups) {
		cleanup()
	}
}
