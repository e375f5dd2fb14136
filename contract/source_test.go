package contract

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// F56: a type is refused by its name, with what to do instead.
func TestSource_bind(t *testing.T) {
	s := sourceOf(t, "a/{x}")
	for _, oid := range []uint32{oidBool, oidInt2, oidInt4, oidInt8, oidText, oidVarchar, oidUUID, oidDate, AnyEnum} {
		_, err := s.Bind([]uint32{oid})
		require.NoError(t, err, "oid %d", oid)
	}
	for name, oid := range map[string]uint32{
		"bytea": 17, "name": 19, "oid": 26, "json": 114, "real": 700, "double precision": 701, "character(n)": 1042, "timestamp": 1114,
		"timestamptz": 1184, "numeric": 1700, "text[]": 1009, "jsonb": 3802,
	} {
		_, err := s.Bind([]uint32{oid})
		var typeError *TypeError
		require.ErrorAs(t, err, &typeError, name)
		require.Equal(t, oid, typeError.OID)
		require.ErrorContains(t, err, `public.test: column "x" has the type `+name+`; topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these: `)
	}
	// What isn't built in has no fixed OID: what stands for an enum comes from the catalog.
	_, err := s.Bind([]uint32{16384})
	require.ErrorContains(t, err, `has the type with oid 16384; topic templates take text`)
	_, err = s.Bind([]uint32{1042})
	require.EqualError(t, err, `public.test: column "x" has the type character(n); topic templates take text, varchar, uuid, smallint, integer, bigint, boolean, date, enums and domains over these: `+
		`values of it are equal that differ in trailing blanks; make it varchar or text`)
}

func TestSource_bindPath(t *testing.T) {
	s := sourceOf(t, "{p=**}/{x}/{p}")
	require.Equal(t, []string{"p", "x"}, s.Columns())
	for _, oid := range []uint32{oidText, oidVarchar} {
		_, err := s.Bind([]uint32{oid, oidInt4})
		require.NoError(t, err)
	}
	for _, oid := range []uint32{oidInt4, oidUUID, oidBool, oidDate, AnyEnum} {
		_, err := s.Bind([]uint32{oid, oidText})
		require.ErrorContains(t, err, `column "p" has the type `+pathless[oid]+`; {p=**} takes text and varchar`)
	}
}

func TestSource_bindCount(t *testing.T) {
	_, err := sourceOf(t, "a/{x}").Bind(nil)
	require.EqualError(t, err, "contract: public.test: 0 types for 1 columns")
	_, err = sourceOf(t, "a").Bind(nil)
	require.NoError(t, err, "a source without columns")
}

// A topic that can't be spelled is told as its template's floor; the row's
// other topics are told as ever.
func TestRows_floors(t *testing.T) {
	s := messages(t).Source("public", "messages")
	rows, err := s.Bind([]uint32{oidText, oidUUID})
	require.NoError(t, err)
	// conversations/…/messages fits, with the id it does not.
	long := strings.Repeat("x", freshet.MaxTopicBytes-len("conversations//messages"))

	topics, floors := rows.AppendTopics(nil, row(long, "1"))
	require.Equal(t, []string{"messages", "conversations/-/messages", "conversations/" + long + "/messages"}, topics)
	require.Equal(t, []freshet.Pattern{"conversations/*/messages/*"}, floors)

	topics, floors = rows.AppendTopics(nil, row(long+"x", "1"))
	require.Equal(t, []string{"messages", "conversations/-/messages"}, topics)
	require.Equal(t, []freshet.Pattern{"conversations/*/messages", "conversations/*/messages/*"}, floors)
}

// More columns than fit on the stack are no matter.
func TestRows_manyColumns(t *testing.T) {
	s := sourceOf(t, "{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}")
	rows, err := s.Bind([]uint32{25, 25, 25, 25, 25, 25, 25, 25, 25, oidBool})
	require.NoError(t, err)
	topics, floors := rows.AppendTopics(nil, row("1", "2", "3", "4", "5", "6", "7", "8", "9", "t"))
	require.Equal(t, []string{"1/2/3/4/5/6/7/8/9/true"}, topics)
	require.Nil(t, floors)
}

func BenchmarkRows_AppendTopics(b *testing.B) {
	s := messages(b).Source("public", "messages")
	rows, err := s.Bind([]uint32{oidText, oidUUID})
	require.NoError(b, err)
	values := [][]byte{[]byte("7"), []byte("01928c7e-0000-7000-8000-000000000001")}
	column := func(i int) ([]byte, bool) { return values[i], true }
	dst := make([]string, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		rows.AppendTopics(dst, column)
	}
}
