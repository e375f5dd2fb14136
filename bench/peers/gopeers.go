package main

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/hub"
	"github.com/freshet-dev/freshet/server/stream"
)

// startFreshet serves Freshet's stream from its hub, without Postgres: what the
// peers do. A notice is a commit that the feed would have handed over.
func startFreshet(o options) (server, error) { return freshetServer(o, false) }

// startFreshetHandler is the same with nothing taken over from net/http.
func startFreshetHandler(o options) (server, error) { return freshetServer(o, true) }

func freshetServer(o options, keepHandler bool) (server, error) {
	h := hub.New(hub.Config{})
	begin := freshet.Revision{Epoch: epoch, Position: 1}
	h.Begin(begin)
	h.Serve(begin)
	events, err := stream.New(stream.Config{Hub: h, MaxConnections: o.Connections, KeepHandler: keepHandler})
	if err != nil {
		return nil, err
	}
	go func() { // the feed's part of an idle database; until the process ends
		for range time.Tick(time.Second) {
			h.Current(time.Now())
		}
	}()
	h.Current(time.Now())
	go func() { _ = events.Run(context.Background()) }()
	s, err := startHTTP(o, events, func(n notice) error {
		h.Publish(freshet.Commit{Revision: n.revision, Topics: []string{n.topic}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return freshetPeer{s, h}, nil
}

// freshetPeer can also be given commits that nobody waits for.
type freshetPeer struct {
	server

	hub *hub.Hub
}

// plain is the handler that one writes by hand: a goroutine and a channel per
// connection. A reader that is 64 notices behind misses some.
type plain struct {
	mu    sync.Mutex // guards conns
	conns map[chan []byte]struct{}
}

func startPlain(o options) (server, error) {
	p := &plain{conns: map[chan []byte]struct{}{}}
	return startHTTP(o, p, func(n notice) error {
		frame := n.frame()
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.conns {
			select {
			case c <- frame:
			default:
			}
		}
		return nil
	})
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan []byte, 64)
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	for {
		if flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case frame := <-c:
			if _, err := w.Write(frame); err != nil {
				return
			}
		}
	}
}

func startR3labs(o options) (server, error) {
	s := r3labs.New()
	s.AutoReplay = false // its log is never trimmed
	s.CreateStream("s")
	return startHTTP(o, s, func(n notice) error {
		s.Publish("s", &r3labs.Event{ID: []byte(n.revision.String()), Event: []byte("invalidate"), Data: n.data})
		return nil
	})
}

func startGoSSE(o options) (server, error) {
	s := &gosse.Server{
		Provider: new(gosse.Joe),
		// It sends the head with the first message unless somebody flushes; then it
		// sets the content type too late.
		OnSession: func(w http.ResponseWriter, _ *http.Request) ([]string, bool) {
			w.Header().Set("Content-Type", "text/event-stream")
			return nil, http.NewResponseController(w).Flush() == nil
		},
	}
	return startHTTP(o, s, func(n notice) error {
		m := &gosse.Message{ID: gosse.ID(n.revision.String()), Type: gosse.Type("invalidate")}
		m.AppendData(string(n.data))
		return s.Publish(m)
	})
}

// centrifugePath asks for a connection as its client does.
var centrifugePath = "/?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{}}`)

func startCentrifuge(o options) (server, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelError, LogHandler: func(centrifuge.LogEntry) {}})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: "u"},
			Subscriptions: map[string]centrifuge.SubscribeOptions{topic: {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	// The readers send no pongs.
	config := centrifuge.SSEConfig{PingPongConfig: centrifuge.PingPongConfig{PingInterval: 25 * time.Second, PongTimeout: -1}}
	return startHTTP(o, centrifuge.NewSSEHandler(node, config), func(n notice) error {
		_, err := node.Publish(topic, n.data)
		return err
	})
}
