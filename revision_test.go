package freshet

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRevision_acceptsOnlyTheWireForm(t *testing.T) {
	rev, err := ParseRevision("0000002a-00000000deadbeef")
	require.NoError(t, err)
	require.Equal(t, Revision{Epoch: 42, Position: 0xdeadbeef}, rev)

	for _, bad := range []string{
		"", "0", "0000002a-00000000DEADBEEF", " 0000002a-00000000deadbeef", "0000002a-00000000deadbeef ",
		"0000002a00000000deadbeef", "0000002a-00000000deadbee", "0000002a-00000000deadbeef, 0000002a-00000000deadbeef",
		"00000000-0000000000000001", "+000002a-00000000deadbeef", "0000002a_00000000deadbeef", "1, 1",
	} {
		_, err := ParseRevision(bad)
		var want *RevisionError
		require.Truef(t, errors.As(err, &want), "%q: %v", bad, err)
	}
}

func TestRevision_ordersByEpochThenPosition(t *testing.T) {
	old, now := Revision{Epoch: 1, Position: 900}, Revision{Epoch: 2, Position: 3}
	require.True(t, old.Less(now), "a position of an older epoch never wins")
	require.True(t, Revision{}.Less(old))
	require.Equal(t, now, old.Max(now))
	require.Equal(t, now, now.Max(old))
	require.Zero(t, now.Compare(now))
	require.Empty(t, Revision{}.String())
}

func FuzzParseRevision(f *testing.F) {
	f.Add("0000002a-00000000deadbeef")
	f.Add("1, 1")
	f.Fuzz(func(t *testing.T, s string) {
		rev, err := ParseRevision(s)
		if err != nil {
			return
		}
		if got := rev.String(); got != s {
			t.Fatalf("%q parsed and printed as %q", s, got)
		}
	})
}
