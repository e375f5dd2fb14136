package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	eventStream = "answered with `text/event-stream`" // of WHATWG, HTML, section 9.2
	soon        = "retry: 20\n\n"
)

var streamCases = []Case{
	{Name: "unknown-events", Section: Stream, Says: "Fields, events and members that you don't know: ignore them.", client: func(p *play) {
		p.begin(listOf("1"))
		at := rev(settled + 0x200)
		p.write("event: news\ndata: {\"revision\":7}\n\n")
		p.write(fmt.Sprintf(": a comment\nid: %s\nfield: 1\nevent: invalidate\ndata: {\"revision\":%q,\"topics\":[%q],\"why\":{\"by\":1}}\n\n", at, at, topicOf("1")))
		p.readAtLeast("1", at)
	}},
	{Name: "lines-crlf", Section: Stream, Says: eventStream, client: func(p *play) {
		p.begin(listOf("1"))
		p.hears(rev(settled+0x210), func(text string) { p.write(strings.ReplaceAll(text, "\n", "\r\n")) })
	}},
	{Name: "lines-cr", Section: Stream, Says: eventStream, client: func(p *play) {
		p.begin(listOf("1"))
		// One more, of a frame that is none: a CR may be half of the end of a line.
		p.hears(rev(settled+0x220), func(text string) { p.write(strings.ReplaceAll(text, "\n", "\r") + ":\r") })
	}},
	{Name: "data-lines", Section: Stream, Says: eventStream, client: func(p *play) {
		p.begin(listOf("1"))
		p.hears(rev(settled+0x230), func(text string) { p.write(strings.Replace(text, ",\"topics", ",\ndata:\"topics", 1)) })
	}},
	{Name: "split-anywhere", Section: Stream, Says: eventStream, client: func(p *play) {
		p.begin(listOf("1"))
		p.hears(rev(settled+0x240), func(text string) {
			for _, b := range []byte(text) {
				p.write(string([]byte{b}))
			}
		})
	}},
	{Name: "half-a-frame", Section: Stream, Says: "the last id heard is what to resume from", client: func(p *play) {
		p.begin(listOf("1"))
		last := p.lastID()
		at := rev(settled + 0x250)
		p.write(soon)
		p.write(fmt.Sprintf("id: %s\nevent: invalidate\ndata: {\"revision\":%q,\"topics\":[%q]}\n", at, at, topicOf("1")))
		p.end()
		p.resumesFrom(last)
	}},
	{Name: "part-without-id", Section: Stream, Says: "each part says the revision in its data, only the last one carries the id", client: func(p *play) {
		p.begin(listOf("1"))
		last := p.lastID()
		p.write(soon)
		for _, o := range p.all() {
			o.sendf("%s", o.notice(rev(settled+0x260), topicOf("1")))
		}
		p.end()
		p.resumesFrom(last)
	}},
	{Name: "resume", Section: Stream, Says: "the last id heard is what to resume from, at any node", client: func(p *play) {
		p.begin(listOf("1"))
		p.beat(rev(settled+0x270), 0)
		p.write(soon)
		p.end()
		p.resumesFrom(rev(settled + 0x270))
	}},
	{Name: "catch-up", Section: Rule, Says: "`invalidate` R only *marks*", client: func(p *play) {
		p.begin(listOf("1"))
		p.write(soon)
		p.end()
		at := rev(settled + 0x280)
		o := p.open()
		o.tell(at, topicOf("1"))
		o.ready(at, 15_000)
		p.readAtLeast("1", at).answer(at, "third")
		p.shows("1", "third")
	}},
	{Name: "retry", Section: Stream, Says: "A `retry:` line may come with any frame; wait that long before a reconnect to the same address.", client: func(p *play) {
		p.begin(listOf("1"))
		const wait = 600 * time.Millisecond
		at := rev(settled + 0x290)
		p.write(fmt.Sprintf("retry: %d\nid: %s\nevent: frontier\ndata: {\"revision\":%q,\"lag_ms\":0}\n\n", wait.Milliseconds(), at, at))
		ended := time.Now()
		p.end()
		o := p.open()
		p.needf(o.at.Sub(ended) >= wait, "told to wait for %s, the client came after %s", wait, o.at.Sub(ended))
	}},
	{Name: "retry-after", Section: Stream, Says: "`Retry-After` of a 429 or 503 is a least wait.", client: func(p *play) {
		p.begin(listOf("1"))
		p.write(soon)
		p.end()
		o := p.open()
		refused := time.Now()
		o.refuse(http.StatusServiceUnavailable, "Retry-After", "1")
		o = p.open()
		p.needf(o.at.Sub(refused) >= time.Second, "Retry-After was a second, the client came after %s", o.at.Sub(refused))
	}},
	{Name: "refused-for-good", Section: Stream, Says: "the same request will be refused again, so don't repeat it", client: func(p *play) {
		p.begin(listOf("1"))
		p.write(soon)
		p.end()
		p.open().refuse(http.StatusBadRequest)
		select {
		case <-p.opens:
			p.failf("after a 400 the client asked for the stream again")
		case <-time.After(min(1500*time.Millisecond, p.cfg.Patience)): // nothing can be waited for that would come after it
		}
	}},
	{Name: "refused-for-topics", Section: Stream, Says: "leave them out, and the others can be followed", client: func(p *play) {
		p.begin(listOf("well"), listOf("misspelled"))
		p.write(soon)
		p.end()
		p.refusesTopic(topicOf("misspelled"), topicOf("well"))
		p.stale("misspelled", true)
		at := rev(settled + 0x350)
		p.tell(at, topicOf("well"))
		r := p.anyRead("of well")
		for ; r.name == "misspelled"; r = p.anyRead("of well") { // of which nothing is told: it may be read now and then
			r.answer(rev(settled), "second of misspelled")
		}
		p.needf(r.atLeast == at, "the read of well is at-least %q; %q is needed", r.atLeast, at)
		r.answer(at, "third")
		p.shows("well", "third")
	}},
	{Name: "silence", Section: Stream, Says: "after 2.5 times that without a byte (comments and `retry:` count) the connection is dead", client: func(p *play) {
		p.begin(listOf("1"))
		p.write(soon)
		p.end()
		const heartbeat = 200
		o := p.open()
		began := time.Now()
		o.ready(rev(settled+0x2d0), heartbeat)
		o = p.open()
		silent := o.at.Sub(began)
		p.needf(silent >= 5*heartbeat/2*time.Millisecond, "a heartbeat is %d ms; the client gave up after %s", heartbeat, silent)
	}},
	{Name: "comments-count", Section: Stream, Says: "(comments and `retry:` count)", client: func(p *play) {
		p.begin(listOf("1"))
		p.write(soon)
		p.end()
		o := p.open()
		// The connection is dead after 2 s, so that a machine may stop for most of that
		// between two comments.
		o.ready(rev(settled+0x2e0), 800)
		for range 13 {
			select {
			case <-p.opens:
				p.failf("comments came, and the client opened another stream")
			case <-time.After(200 * time.Millisecond):
				o.sendf(": still here\n\n")
			}
		}
	}},
	{Name: "lag-is-stale", Section: Rule, Says: "`lag_ms` over your bound while heartbeats arrive: show it as stale, don't reconnect", client: func(p *play) {
		p.begin(listOf("1"))
		p.stale("1", false)
		p.beat(rev(settled+0x2f0), 600_000)
		p.stale("1", true)
		p.beat(rev(settled+0x2f1), 0)
		p.stale("1", false)
		select {
		case <-p.opens:
			p.failf("the client opened another stream")
		default:
		}
	}},
	{Name: "no-stream-is-stale", Section: Rule, Says: "reconnect, show the data as stale", client: func(p *play) {
		p.begin(listOf("3"))
		p.write(soon)
		p.end()
		p.open().refuse(http.StatusServiceUnavailable, "Retry-After", "1")
		p.stale("3", true)
		p.open().ready(rev(settled+0x300), 15_000)
		p.stale("3", false)
	}},
	{Name: "end", Section: Stream, Says: "It has no id, so the last one heard stands", client: func(p *play) {
		p.begin(listOf("1"))
		p.beat(rev(settled+0x310), 0)
		p.write("retry: 20\nevent: end\ndata: {\"reason\":\"new\"}\n\n")
		p.end()
		p.resumesFrom(rev(settled + 0x310))
	}},
}

var epochCases = []Case{
	{Name: "reset", Section: Rule, Says: "A higher epoch anywhere, or `reset`: every query's `need` becomes that revision, refetch with jitter", client: func(p *play) {
		p.begin(listOf("1"))
		p.resetTo(nextRev(0x10))
	}},
	{Name: "reset-to-lower", Section: Stream, Says: "take the server's, forget what was held", client: func(p *play) {
		p.begin(listOf("1"))
		p.resetTo(lowerRev(0x20))
	}},
	{Name: "reset-of-own-history", Section: Rule, Says: "`need` becomes the higher of the two", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(settled+0x330), topicOf("1"))
		p.read("1").answer(nextRev(0x60), "third") // the query is in the next history before the stream is
		p.shows("1", "third")
		at := nextRev(0x50) // its node is behind the one that answered
		p.write(fmt.Sprintf("id: %s\nevent: reset\ndata: {\"revision\":%q,\"reason\":\"epoch\"}\n\n", at, at))
		p.readAtLeast("1", nextRev(0x60)).answer(nextRev(0x60), "fourth")
		p.shows("1", "fourth")
	}},
	{Name: "higher-epoch", Section: Rule, Says: "drop whatever comes from a lower epoch", client: func(p *play) {
		p.begin(listOf("1"))
		at := nextRev(0x30)
		p.tell(at, topicOf("1"))
		p.readAtLeast("1", at).answer(rev(settled+0xffff), "of the last epoch")
		p.readAtLeast("1", at).answer(at, "third")
		p.shows("1", "third")
		p.neverShown("1", "of the last epoch")
	}},
}

func (p *play) resetTo(at string) {
	p.write(fmt.Sprintf("id: %s\nevent: reset\ndata: {\"revision\":%q,\"reason\":\"epoch\"}\n\n", at, at))
	p.readAtLeast("1", at).answer(at, "of the other history")
	p.shows("1", "of the other history")
}

// refusesTopic refuses each stream with one of the topics, until one with the other comes
// without it. None may be asked for twice.
func (p *play) refusesTopic(refused, other string) {
	var before []string
	for {
		o := p.open()
		if !slices.Contains(o.topics, refused) {
			o.ready(rev(settled), 15_000)
			if slices.Contains(o.topics, other) {
				return
			}
			continue
		}
		asked := strings.Join(slices.Sorted(slices.Values(o.topics)), " ")
		p.needf(!slices.Contains(before, asked), "refused for %s, the client asked for the same topics again: %s", refused, asked)
		before = append(before, asked)
		o.misspelled(refused)
	}
}

// hears: a notice that is written in some way leads to a read.
func (p *play) hears(at string, write func(text string)) {
	write(fmt.Sprintf("id: %s\nevent: invalidate\ndata: {\"revision\":%q,\"topics\":[%q],\"spread_ms\":0}\n\n", at, at, topicOf("1")))
	p.readAtLeast("1", at)
}

// lastID is the id that begin told last.
func (p *play) lastID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frontier
}

// resumesFrom: the next stream begins there.
func (p *play) resumesFrom(id string) {
	o := p.open()
	p.needf(o.lowestSince() == id, "the last id was %s; the client comes back with %q", id, o.lowestSince())
}
