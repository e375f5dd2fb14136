package messages

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzParseMessageToken(f *testing.F) {
	f.Add("conversations/a", "")
	f.Add("conversations/a", token("conversations/a", make([]byte, 24)))
	f.Add("conversations/a", token("conversations/b", make([]byte, 24)))
	f.Fuzz(func(t *testing.T, parent, text string) {
		key, err := parseMessageToken(parent, text)
		if err != nil || text == "" {
			require.Nil(t, key)
			return
		}
		require.Equal(t, text, messageToken(parent, row{CreateTime: key.createTime, ID: key.id}), "one token for one place")
	})
}

func FuzzParseConversationToken(f *testing.F) {
	f.Add("")
	f.Add(conversationToken("a"))
	f.Add(token(conversationList, []byte("a';--")))
	f.Fuzz(func(t *testing.T, text string) {
		last, err := parseConversationToken(text)
		if err != nil || text == "" {
			require.Empty(t, last)
			return
		}
		require.Regexp(t, conversationID, last)
		require.Equal(t, text, conversationToken(last))
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("conversations/a/messages/01890a5d-ac96-774b-bcce-b302099a8057")
	f.Add("conversations/a/messages/01890A5D-AC96-774B-BCCE-B302099A8057")
	f.Add("conversations/a/messages/{01890a5d-ac96-774b-bcce-b302099a8057}")
	f.Fuzz(func(t *testing.T, text string) {
		if name, err := parseName("name", text); err == nil {
			require.Equal(t, text, name.String(), "topics are made of names: each has one form")
		}
	})
}
