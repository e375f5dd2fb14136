package mono_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/internal/mono"
)

func TestMark(t *testing.T) {
	t.Parallel()
	var m mono.Mark
	require.False(t, m.IsSet())
	require.Zero(t, m.Ago())

	began := time.Now()
	m.Set(began)
	require.True(t, m.IsSet())
	require.Equal(t, time.Minute, m.Before(began.Add(time.Minute)))
	require.EqualValues(t, 1, m.Before(began), "a moment that is there is never none")
	m.Begin()
	require.Equal(t, time.Hour, m.Before(began.Add(time.Hour)), "it has begun already")

	m.Clear()
	require.False(t, m.IsSet())
	m.Begin()
	require.True(t, m.IsSet())
	require.LessOrEqual(t, m.Ago(), time.Since(began))

	m.Set(time.Time{})
	require.False(t, m.IsSet())
	m.Set(began.Add(-time.Hour)) // before the program
	require.True(t, m.IsSet())
}
