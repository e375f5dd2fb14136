package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

// Why a node isn't ready, in a word for everybody. The rest may name databases,
// addresses and users: it is told on the admin port, and logged.
const (
	reasonStarting = "starting"
	reasonStopping = "stopping"
	reasonCapture  = "capture"
	reasonDatabase = "database"
)

// condition is one of those that readiness consists of.
type condition struct {
	reason string
	check  func() error
}

// unready is what keeps a node from being ready.
type unready struct{ reason, detail string }

func (e *unready) Error() string { return e.detail }

// readiness is whether the node should get traffic, and why not.
type readiness struct {
	mu         sync.Mutex
	phase      *unready        // why not, while starting or stopping; nil in between
	conditions []condition     // asked in between, in order
	remarks    []string        // what keeps no node from being ready, and is to be mended
	passing    func() []string // more of these, that come and go; nil: none
}

// remarkWhile has what f returns be a remark for as long as it does.
func (r *readiness) remarkWhile(f func() []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passing = f
}

// remark adds a detail to a readiness that it doesn't change.
func (r *readiness) remark(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remarks = append(r.remarks, text)
}

func (r *readiness) remarked() string {
	r.mu.Lock()
	remarks, passing := slices.Clone(r.remarks), r.passing
	r.mu.Unlock()
	if passing != nil {
		remarks = append(remarks, passing()...)
	}
	return strings.Join(remarks, "; ")
}

// enter begins a phase in which the node isn't ready.
func (r *readiness) enter(reason, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = &unready{reason, detail}
}

// open ends the start: from now on the conditions decide.
func (r *readiness) open(conditions ...condition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.conditions = nil, conditions
}

// check returns nil when the node is ready, else an *unready.
func (r *readiness) check() error {
	r.mu.Lock()
	phase, conditions := r.phase, r.conditions
	r.mu.Unlock()
	if phase != nil {
		return phase
	}
	for _, c := range conditions {
		if err := c.check(); err != nil {
			return &unready{c.reason, err.Error()}
		}
	}
	return nil
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
	if remarks := r.remarked(); detail && remarks != "" {
		answer.Detail = remarks
		text += ", but " + remarks
	}
	var why *unready
	if errors.As(r.check(), &why) {
		answer.Ready, answer.Reason = false, why.reason
		code, text = http.StatusServiceUnavailable, "not ready: "+why.reason
		if detail {
			answer.Detail = why.detail
			text += ": " + why.detail
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
