package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
)

// The pages of a list are answers of their own, and a later one may be the older: a
// row that was deleted and made again in between is on both, which is no fault if the
// stamp allows the older. A row that is listed twice as it is, is one.
func TestJoinPages(t *testing.T) {
	type cells = []check.Cell
	for _, c := range []struct{ before, page, want cells }{
		{nil, cells{{1, 1}, {2, 1}}, cells{{1, 1}, {2, 1}}},
		{cells{{1, 3}, {2, 1}}, cells{{1, 1}, {3, 1}}, cells{{2, 1}, {1, 1}, {3, 1}}},
		{cells{{1, 1}, {2, 1}}, cells{{1, 3}}, cells{{1, 1}, {2, 1}}},
		{cells{{1, 1}}, cells{{1, 1}}, cells{{1, 1}, {1, 1}}},
		{nil, cells{{1, 1}, {1, 1}}, cells{{1, 1}, {1, 1}}},
	} {
		require.Equal(t, c.want, check.JoinPages(c.before, c.page), "%v + %v", c.before, c.page)
	}
}
