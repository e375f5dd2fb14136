package front

import (
	"encoding/json"
	"net/http"

	"connectrpc.com/connect"
)

// refuse answers a request that no handler gets to see, in the form of
// Connect's errors. Clients of gRPC go by the status.
func refuse(w http.ResponseWriter, status int, code connect.Code, message string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code.String(), message})
	if err == nil { // two strings always marshal
		_, _ = w.Write(append(body, '\n')) // the peer has gone if it can't be told
	}
}

// unavailable tells to come back soon.
func unavailable(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, connect.CodeUnavailable, message)
}
