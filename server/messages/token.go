package messages

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// A page token is base64url of: the version, the first bytes of a hash of the
// list that it belongs to, the key of the page's last element. Opaque to
// clients, and no secret: all it can do is to start that list somewhere else,
// so it isn't signed.
const (
	tokenVersion = 1
	tokenHeader  = 1 + 8
)

// messageKey is where a list of messages goes on: below this one.
type messageKey struct {
	createTime time.Time // Postgres' microseconds
	id         uuid.UUID
}

// params are the key as the queries want it; of nil, the beginning.
func (k *messageKey) params() (*time.Time, uuid.NullUUID) {
	if k == nil {
		return nil, uuid.NullUUID{}
	}
	return &k.createTime, uuid.NullUUID{UUID: k.id, Valid: true}
}

func messageToken(parent string, last row) string {
	key := binary.BigEndian.AppendUint64(nil, uint64(last.CreateTime.UnixMicro()))
	return token(parent, append(key, last.ID[:]...))
}

// parseMessageToken returns where the list of the parent's messages goes on;
// nil: at its beginning.
func parseMessageToken(parent, text string) (*messageKey, error) {
	if text == "" {
		return nil, nil
	}
	key, ok := parseToken(parent, text)
	if !ok || len(key) != 8+16 {
		return nil, errToken()
	}
	k := &messageKey{createTime: time.UnixMicro(int64(binary.BigEndian.Uint64(key))), id: uuid.UUID(key[8:])}
	// Beyond this the table has none, and pgx would not know how to write it.
	if year := k.createTime.UTC().Year(); year < 1 || year > 9999 {
		return nil, errToken()
	}
	return k, nil
}

// conversationList names the list of conversations in its tokens.
const conversationList = "conversations"

func conversationToken(last string) string { return token(conversationList, []byte(last)) }

// parseConversationToken returns the conversation after which the list goes on;
// empty: at its beginning.
func parseConversationToken(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	key, ok := parseToken(conversationList, text)
	if !ok || !conversationID.Match(key) {
		return "", errToken()
	}
	return string(key), nil
}

func token(list string, key []byte) string {
	hash := sha256.Sum256([]byte(list))
	b := append([]byte{tokenVersion}, hash[:tokenHeader-1]...)
	return base64.RawURLEncoding.EncodeToString(append(b, key...))
}

// parseToken returns the key of a token of this version and this list.
func parseToken(list, text string) (key []byte, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < tokenHeader || token(list, b[tokenHeader:]) != text {
		return nil, false
	}
	return b[tokenHeader:], true
}
