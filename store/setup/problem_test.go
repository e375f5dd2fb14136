package setup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/store/setup"
)

// What is printed is for psql as it stands: nothing but SQL is out of a comment, a
// statement a line, each under who may.
func TestError(t *testing.T) {
	require.Empty(t, (&setup.Error{}).Error())
	require.Equal(t, "it is old", (&setup.Error{Problems: []setup.Problem{{Text: "it is old"}}}).Error())
	require.Equal(t, `no index
create unique index concurrently i on t (a);
begin;
alter table t replica identity using index i;
commit;`, (&setup.Error{Problems: []setup.Problem{
		{Text: "no index", SQL: []string{"create unique index concurrently i on t (a);", "begin;", "alter table t replica identity using index i;", "commit;"}},
	}}).Error())
	require.Equal(t, `5 things are to be mended in the database
-- one
-- two drop table t;
-- three
-- four
-- five
-- to be run by a superuser:
a;
b;
-- to be run by x drop table u;:
c;
-- to be run by the role that was told:
d;`, (&setup.Error{Problems: []setup.Problem{
		{Text: "one", SQL: []string{"a;"}, By: "a superuser"},
		{Text: "two\ndrop table t;"}, // out of a name
		{Text: "three", SQL: []string{"b;"}, By: "a superuser"},
		{Text: "four", SQL: []string{"c;"}, By: "x\ndrop table u;"},
		{Text: "five", SQL: []string{"d;"}},
	}}).Error())
}
