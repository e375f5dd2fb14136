package freshet

import (
	"encoding"
	"encoding/json"
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

var (
	_ encoding.TextAppender    = Revision{}
	_ encoding.TextMarshaler   = Revision{}
	_ encoding.TextUnmarshaler = (*Revision)(nil)
)

// As text it is the wire form wherever the standard library looks for one: in a
// field and as a key.
func TestRevision_isText(t *testing.T) {
	rev := Revision{Epoch: 42, Position: 0xdeadbeef}
	b, err := rev.AppendText([]byte("id: "))
	require.NoError(t, err)
	require.Equal(t, "id: 0000002a-00000000deadbeef", string(b))
	require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = rev.AppendText(b[:4]) }))

	type note struct {
		At   Revision
		None Revision
		By   map[Revision]int
	}
	out, err := json.Marshal(note{At: rev, By: map[Revision]int{rev: 1}})
	require.NoError(t, err)
	require.JSONEq(t, `{"At":"0000002a-00000000deadbeef","None":"","By":{"0000002a-00000000deadbeef":1}}`, string(out))
	in := note{None: rev}
	require.NoError(t, json.Unmarshal(out, &in))
	require.Equal(t, note{At: rev, By: map[Revision]int{rev: 1}}, in)

	var want *RevisionError
	require.ErrorAs(t, rev.UnmarshalText([]byte("0000002A-00000000DEADBEEF")), &want)
	require.Equal(t, Revision{Epoch: 42, Position: 0xdeadbeef}, rev, "an error changes nothing")
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
