package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/freshet-dev/freshet/server"
)

// readiness tells of a node's: on the main port in a word; the rest may name
// databases, addresses and users: it is told on the admin port, and logged.
type readiness struct {
	node interface {
		Ready() error
		Warnings() []string
	}
}

// ServeHTTP is /readyz on the main port: 200, or 503 with the reason; JSON for
// those who accept it, else a line of text.
func (r *readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.answer(w, req, false) }

// detailed is /readyz on the admin port.
func (r *readiness) detailed(w http.ResponseWriter, req *http.Request) { r.answer(w, req, true) }

func (r *readiness) answer(w http.ResponseWriter, req *http.Request, detail bool) {
	answer := struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
		Detail string `json:"detail,omitempty"`
	}{Ready: true}
	code, text := http.StatusOK, "ready"
	if warnings := strings.Join(r.node.Warnings(), "\n"); detail && warnings != "" {
		answer.Detail = warnings
		text += ", but " + warnings
	}
	var why *server.NotReadyError
	if errors.As(r.node.Ready(), &why) {
		answer.Ready, answer.Reason = false, why.Reason
		code, text = http.StatusServiceUnavailable, "not ready: "+why.Reason
		if detail {
			answer.Detail = why.Detail
			text += ": " + why.Detail
		}
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(req.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(answer) // the peer has gone if it can't be told
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}

// health is grpc.health.v1: every service that is served has the node's
// readiness.
type health struct {
	ready    *readiness
	services map[string]bool // "" is the whole server
}

func (h *health) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if !h.services[req.Service] {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %q", req.Service))
	}
	if h.ready.node.Ready() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// alive is /healthz: the process answers.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}
