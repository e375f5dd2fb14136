//go:build !linux

package stream

import "net/http"

// Elsewhere every stream stays with its handler.

func canTakeOver(http.ResponseWriter, *http.Request) http.ResponseWriter { return nil }

func (s *Server) takeOver(http.ResponseWriter, *session) bool { return false }

// attempt is what a pump needs for sockets.
type attempt struct{}

// peers has nobody to watch.
type peers struct{}

func (*peers) forget(*outlet) {}
func (*peers) cut()           {}
