package front

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/freshet-dev/freshet/server"
)

const (
	defaultHotWindow = 10 * time.Second
	maxHotWindow     = 5 * time.Minute
	defaultHotTopics = 20
	maxHotTopics     = 1000
)

// hot measures for a while which topics cost most, and then tells. The measurement
// ends with whoever has asked for it.
func hot(node *server.Node) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		window, err := time.ParseDuration(r.FormValue("for"))
		if r.FormValue("for") == "" {
			window, err = defaultHotWindow, nil
		}
		if err != nil || window <= 0 || window > maxHotWindow {
			refuse(w, http.StatusBadRequest, connect.CodeInvalidArgument, "for: want a time up to "+maxHotWindow.String()+", as 10s")
			return
		}
		worst, err := strconv.Atoi(r.FormValue("top"))
		if r.FormValue("top") == "" {
			worst, err = defaultHotTopics, nil
		}
		if err != nil || worst <= 0 || worst > maxHotTopics {
			refuse(w, http.StatusBadRequest, connect.CodeInvalidArgument, "top: want a number from 1 to "+strconv.Itoa(maxHotTopics))
			return
		}
		found, err := node.Hot(r.Context(), window, worst)
		switch {
		case errors.Is(err, server.ErrBusy):
			w.Header().Set("Retry-After", "5")
			refuse(w, http.StatusConflict, connect.CodeAborted, err.Error())
			return
		case err != nil:
			return // who has asked is gone
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(found) // the peer has gone if it can't be told
	}
}
