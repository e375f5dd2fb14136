package messages

import (
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// allConversations is the parent of every message (AIP-159).
const allConversations = "conversations/-"

const (
	conversationsPrefix = "conversations/"
	messagesInfix       = "/messages/"
)

// conversationID is the grammar of the proto's rules and of the table's check.
var conversationID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// messageName is `conversations/{conversation}/messages/{id}`, taken apart.
type messageName struct {
	conversation string
	id           uuid.UUID
}

func (n messageName) String() string {
	return conversationsPrefix + n.conversation + messagesInfix + n.id.String()
}

// parseConversation returns the id in `conversations/{conversation}`.
func parseConversation(field, name string) (string, error) {
	id, ok := strings.CutPrefix(name, conversationsPrefix)
	if !ok || !conversationID.MatchString(id) {
		return "", errField(field, "must be conversations/{conversation}")
	}
	return id, nil
}

// parseName parses the name of a message, in its canonical form only: topics are
// made of it.
func parseName(field, name string) (messageName, error) {
	parent, text, ok := strings.Cut(name, messagesInfix)
	conversation, err := parseConversation(field, parent)
	id, canonical := parseUUID(text)
	if !ok || err != nil || !canonical {
		return messageName{}, errField(field, "must be conversations/{conversation}/messages/{uuid} in lower case")
	}
	return messageName{conversation: conversation, id: id}, nil
}

// parseUUID parses the 36 characters in lower case that Postgres writes, and
// none of the other forms that uuid.Parse takes.
func parseUUID(text string) (id uuid.UUID, canonical bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && id.String() == text
}

func parseRequestID(text string) (uuid.NullUUID, error) {
	if text == "" {
		return uuid.NullUUID{}, nil
	}
	id, ok := parseUUID(text)
	if !ok {
		return uuid.NullUUID{}, errField("request_id", "must be a UUID in lower case")
	}
	return uuid.NullUUID{UUID: id, Valid: true}, nil
}

// parseEtag returns the version that a change is based on. A text that we never
// gave out is the nil UUID, which no row has: a version that has passed, not a
// malformed request (AIP-154).
func parseEtag(text string) uuid.NullUUID {
	if text == "" {
		return uuid.NullUUID{}
	}
	id, ok := parseUUID(text)
	if !ok {
		id = uuid.Nil
	}
	return uuid.NullUUID{UUID: id, Valid: true}
}
