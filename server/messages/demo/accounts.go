package demo

// Account is somebody whom anyone at this machine may sign in as. What the claims
// allow is for server/messages/grants.yaml to say.
type Account struct {
	// Subject is the account's name in requests and `sub` in its tokens.
	Subject string `json:"account"`
	// Name is what people are shown.
	Name string `json:"name"`
	// May says in a sentence what the account may.
	May string `json:"may"`
	// Conversations are those that it sees. None: it needs no list, since it may
	// read that of all.
	Conversations []string `json:"conversations"`

	claims map[string]any
}

// Accounts are the three of the demonstration.
func Accounts() []Account {
	return []Account{
		{
			Subject: "ada", Name: "Ada",
			May:    "Moderator: sees all conversations, writes and removes messages everywhere.",
			claims: map[string]any{"scope": "messages", "role": "moderator"},
		},
		{
			Subject: "bob", Name: "Bob", Conversations: []string{"general", "7", "announcements"},
			May:    "Member of #general and #7: sees these, and writes there. Reads #announcements.",
			claims: map[string]any{"scope": "messages", "conversations": []string{"general", "7"}},
		},
		{
			Subject: "guest", Name: "Guest", Conversations: []string{"general", "announcements"},
			May:    "Reader of #general and #announcements. Writes nowhere.",
			claims: map[string]any{"scope": "messages.read", "conversations": []string{"general"}},
		},
	}
}

func accountOf(subject string) (Account, bool) {
	for _, a := range Accounts() {
		if a.Subject == subject {
			return a, true
		}
	}
	return Account{}, false
}
