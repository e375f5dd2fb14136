package server

import (
	"github.com/freshet-dev/freshet"
	"github.com/freshet-dev/freshet/server/causes"
	"github.com/freshet-dev/freshet/server/intercept"
	"github.com/freshet-dev/freshet/store/wal"
)

// explained is a sink that notes what made topics change before it is told.
type explained struct {
	wal.Sink
	log *causes.Log

	begun bool // anew: what came before isn't known
}

func (e *explained) Begin(horizon freshet.Revision) {
	e.begun = true
	e.log.Begin()
	e.Sink.Begin(horizon)
}

func (e *explained) Publish(c freshet.Commit) {
	e.log.Record(c)
	e.Sink.Publish(c)
}

func (e *explained) Serve(rev freshet.Revision) {
	if e.begun {
		e.begun = false
		e.log.Serve(rev)
	}
	e.Sink.Serve(rev)
}

// explaining has changes of sink noted, if Config.Explain says so.
func (n *Node) explaining(sink wal.Sink) wal.Sink {
	if !n.cfg.Explain {
		return sink
	}
	n.causes = causes.New(n.cfg.MaxExplained)
	if n.cfg.Registerer != nil {
		n.gauge("freshet_explained_changes", "With --explain: changes that are remembered, at most --max-explained.",
			func() float64 { return float64(n.causes.Len()) })
	}
	return &explained{Sink: sink, log: n.causes}
}

// whys are what the interceptors ask; nil: nobody does.
func (n *Node) whys() intercept.Causes {
	if n.causes == nil {
		return nil
	}
	return n.causes
}
