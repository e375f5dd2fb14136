package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// readiness is whether the node should get traffic, and why not.
type readiness struct {
	mu    sync.Mutex
	phase string         // why not, while starting or stopping; "" in between
	parts []func() error // asked in between, in order
}

func (r *readiness) enter(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

// open ends the start: from now on the parts decide.
func (r *readiness) open(parts ...func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.parts = "", parts
}

// check returns nil when the node is ready, else the reason in words.
func (r *readiness) check() error {
	r.mu.Lock()
	phase, parts := r.phase, r.parts
	r.mu.Unlock()
	if phase != "" {
		return errors.New(phase)
	}
	for _, part := range parts {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// ServeHTTP is /readyz: 200, or 503 with the reason; JSON for those who accept
// it, else a line of text.
func (r *readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer := struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}{Ready: true}
	code, text := http.StatusOK, "ready"
	if err := r.check(); err != nil {
		answer.Ready, answer.Reason = false, err.Error()
		code, text = http.StatusServiceUnavailable, "not ready: "+err.Error()
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
	if h.ready.check() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// alive is /healthz: the process answers.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}
