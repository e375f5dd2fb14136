package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Service says how a server's own service is driven. In bodies and topics PLACE stands
// for a name that a case makes up, lower-case letters and digits, and VALUE for a text
// that Read's answer has to show once Write has brought it there. A topic may take claims
// of whoever calls, {principal.org_id}: their values are those that Read's answer says.
type Service struct {
	// Read answers with what Write wrote to the same place, and depends on Topic. It
	// is a method without side effects, so that it can be called by GET.
	Read Call `json:"read"`
	// Write adds to a place. Each call changes Topic of Read.
	Write Call `json:"write"`
	// Missing is a read of something that isn't there.
	Missing Call `json:"missing"`
	// Misspelled is a call, and its topic, that say a value otherwise than rows do, a UUID
	// in upper case. Without Procedure there is no such call, nor without Topic such a
	// topic: cases about them are left out.
	Misspelled Call `json:"misspelled"`
	// PlaceLength is how long a place's name may be. Zero: 40.
	PlaceLength int `json:"place_length"`
}

// Call is a method and its request in JSON.
type Call struct {
	Procedure string          `json:"procedure"` // /package.Service/Method
	Body      json.RawMessage `json:"body"`
	Topic     string          `json:"topic,omitempty"` // of Read and Misspelled
}

// Messages drives the message service of `freshet serve`.
func Messages() Service {
	const of = "/messages.v1.MessageService/"
	return Service{
		Read:        Call{Procedure: of + "ListMessages", Body: json.RawMessage(`{"parent":"conversations/PLACE"}`), Topic: "conversations/PLACE/messages"},
		Write:       Call{Procedure: of + "CreateMessage", Body: json.RawMessage(`{"parent":"conversations/PLACE","message":{"author":"conformance","body":"VALUE"}}`)},
		Misspelled:  Call{Topic: "conversations/PLACE/messages/00000000-0000-7000-8000-00000000000A"}, // such calls break rules of its proto
		Missing:     Call{Procedure: of + "GetMessage", Body: json.RawMessage(`{"name":"conversations/PLACE/messages/00000000-0000-7000-8000-000000000000"}`)},
		PlaceLength: 60,
	}
}

// ParseService reads one from JSON.
func ParseService(text []byte) (Service, error) {
	var s Service
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, fmt.Errorf("the service: %w", err)
	}
	return s, s.check()
}

func (s Service) check() error {
	calls := map[string]Call{"read": s.Read, "write": s.Write, "missing": s.Missing}
	if s.Misspelled.Procedure != "" {
		calls["misspelled"] = s.Misspelled
	}
	for name, c := range calls {
		if !strings.HasPrefix(c.Procedure, "/") || strings.Count(c.Procedure, "/") != 2 {
			return fmt.Errorf("the service's %s: procedure %q isn't /package.Service/Method", name, c.Procedure)
		}
		if !json.Valid(c.Body) {
			return fmt.Errorf("the service's %s has no body in JSON", name)
		}
	}
	switch {
	case !strings.Contains(s.Read.Topic, placeMark):
		return errors.New("the service's read has no topic with PLACE in it")
	case !bytes.Contains(s.Read.Body, []byte(placeMark)), !bytes.Contains(s.Write.Body, []byte(placeMark)):
		return errors.New("PLACE isn't in the body of the service's read and write")
	case !bytes.Contains(s.Write.Body, []byte(valueMark)):
		return errors.New("VALUE isn't in the body of the service's write")
	case s.PlaceLength < 0 || s.PlaceLength > 0 && s.PlaceLength < shortestPlace:
		return fmt.Errorf("the service's place_length is below %d", shortestPlace)
	}
	return nil
}

const (
	placeMark     = "PLACE"
	callerMark    = "{principal."
	valueMark     = "VALUE"
	shortestPlace = 24
)

// at is the call's body for a place and a value.
func (c Call) at(place, value string) string {
	return strings.NewReplacer(placeMark, place, valueMark, value).Replace(string(c.Body))
}

// lacks says that the service has nothing that a case needs.
func (s Service) lacks(c Case) bool {
	return c.Name == callSpelling && s.Misspelled.Procedure == "" || c.Name == topicSpelling && s.Misspelled.Topic == ""
}

// topic is what Read of the place depends on.
func (s Service) topic(place string) string {
	return strings.ReplaceAll(s.Read.Topic, placeMark, place)
}
