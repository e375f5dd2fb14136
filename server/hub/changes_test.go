package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet"
)

// Changes is all that has changed above a position, or above a higher one that it names:
// what is evicted, or above the limit, isn't passed over in silence.
func TestHub_changes(t *testing.T) {
	h := New(Config{MaxTopics: 3})
	require.Zero(t, h.Changes(0, 1000))
	h.Begin(at(100))
	h.Publish(commit(105, "a"))
	require.Zero(t, h.Changes(0, 1000), "whoever doesn't serve knows nothing for others")
	h.Serve(at(107))
	h.Publish(freshet.Commit{Revision: at(110), Topics: []string{"b", "c"}, Floors: []freshet.Pattern{"x/*"}})
	h.Publish(commit(120, "b"))
	require.Equal(t, Changes{
		Frontier: at(120), Since: 100, Commits: []freshet.Commit{
			commit(105, "a"), {Revision: at(110), Topics: []string{"c"}, Floors: []freshet.Pattern{"x/*"}}, commit(120, "b"),
		},
	}, h.Changes(3, 1000))
	require.Equal(t, Changes{Frontier: at(120), Since: 110, Commits: []freshet.Commit{commit(120, "b")}}, h.Changes(110, 1000))
	require.Equal(t, Changes{Frontier: at(120), Since: 120}, h.Changes(120, 1000))

	h.Publish(commit(130, "d")) // a is forgotten
	require.Equal(t, at(105).Position, h.Changes(0, 1000).Since)

	h.Publish(commit(140, "e", "f"))
	limited := h.Changes(0, 2*(1+changeBytes)-1)
	require.Equal(t, Changes{Frontier: at(140), Since: 140}, limited, "a commit of which a part has no room is left out")
	limited = h.Changes(0, 2*(1+changeBytes))
	require.Equal(t, uint64(130), limited.Since)
	require.Len(t, limited.Commits, 1)
	require.Len(t, limited.Commits[0].Topics, 2)
}
