package intercept

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/server/grants"
	"github.com/freshet-dev/freshet/store"
)

// What the database denies a caller is told as a missing grant is, and says nothing of
// what is stored: nothing to settle or stamp. A handler's own denial does.
func TestTranslate_deniedByTheDatabase(t *testing.T) {
	err := fmt.Errorf("insert: %w: row of table secrets", store.ErrDenied)
	got := translate(t.Context(), err)
	require.Equal(t, connect.CodePermissionDenied, got.Code())
	require.Equal(t, grants.ErrDenied.Error(), got.Message())
	require.False(t, isAboutData(t.Context(), err))
	require.True(t, isAboutData(t.Context(), connect.NewError(connect.CodePermissionDenied, err)))
}
