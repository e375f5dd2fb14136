package setup_test

import (
	"testing"

	"github.com/freshet-dev/freshet/contract"
	"github.com/freshet-dev/freshet/internal/testkit"
)

// programOf is the contract of one source.
func programOf(t *testing.T, table string, topics ...string) *contract.Program {
	t.Helper()
	return testkit.Contract(t, testkit.Source{Table: table, Topics: topics})
}
