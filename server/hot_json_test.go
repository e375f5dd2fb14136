package server_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/server"
)

// What a service of one's own encodes is what doctor reads.
func TestHotTopics_JSON(t *testing.T) {
	for text, found := range map[string]server.HotTopics{
		`{"window_ms":1500,"replaced":2,"topics":[{"topic":"a","followers":1,"changes":2,"notices":3,"reads":4,"needless_reads":5,"queries":6,"needless_queries":7}]}`: {
			Window: 1500 * time.Millisecond, Replaced: 2,
			Topics: []server.HotTopic{{Topic: "a", Followers: 1, Changes: 2, Notices: 3, Reads: 4, NeedlessReads: 5, Queries: 6, NeedlessQueries: 7}},
		},
		`{"window_ms":0,"replaced":0,"topics":[]}`: {Topics: []server.HotTopic{}},
	} {
		encoded, err := json.Marshal(found)
		require.NoError(t, err)
		require.JSONEq(t, text, string(encoded))
		var decoded server.HotTopics
		require.NoError(t, json.Unmarshal(encoded, &decoded))
		require.Equal(t, found, decoded)
	}
	none, err := json.Marshal(server.HotTopics{})
	require.NoError(t, err)
	require.Contains(t, string(none), `"topics":[]`, "not null")
	require.Error(t, json.Unmarshal([]byte(`{"topics":1}`), new(server.HotTopics)))
}
