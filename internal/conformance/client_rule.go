package conformance

import (
	"maps"
	"slices"
	"time"
)

// Each case tells of positions of its own, so that somebody who breaks one case on
// purpose breaks no other.
var followCases = []Case{
	{Name: "topics", Section: Topics, Says: "`ListMessages` declares `{parent=**}/messages`, so with `parent: \"conversations/7\"` it depends on `conversations/7/messages`.", client: func(p *play) {
		p.begin(listOf("7"), getOf("one"))
		followed := map[string]bool{}
		for _, o := range p.all() {
			for _, topic := range o.topics {
				followed[topic] = true
			}
		}
		got := slices.Sorted(maps.Keys(followed))
		p.needf(slices.Equal(got, []string{messageName, topicOf("7")}), "the client follows %q", got)
	}},
	{Name: "first-read", Section: Rule, Says: "A first fetch while the stream is live asks at-least the last id heard. Without a stream: strong.", client: func(p *play) {
		p.auto.Store(false)
		p.launch(listOf("1"))
		heard := rev(settled + 0x10)
		deadline := time.After(p.cfg.Patience)
		for !p.adapter.ever("1", "first") {
			select {
			case o := <-p.opens:
				o.ready(heard, 15_000)
			case r := <-p.reads:
				p.needf(r.atLeast == "" || r.atLeast == heard, "the first read is at-least %q; the last id was %s", r.atLeast, heard)
				r.answer(heard, "first")
			case <-p.adapter.watch():
			case <-deadline:
				p.failf("no first read was shown; %s", p.adapter.summary())
			}
		}
	}},
	{Name: "other-topic", Section: Rule, Says: "for each query on those topics", client: func(p *play) {
		p.begin(listOf("1"), listOf("2"))
		p.tell(rev(settled+0x20), topicOf("2"))
		p.read("2").answer(rev(settled+0x20), "third")
		p.shows("2", "third")
		p.tell(rev(settled+0x21), topicOf("1"))
		p.read("1").answer(rev(settled+0x21), "third")
		p.shows("1", "third")
	}},
}

var ruleCases = []Case{
	{Name: "notice-refetches", Section: Rule, Says: "A request asks at-least `need`.", client: func(p *play) {
		p.begin(listOf("1"))
		at := rev(settled + 0x30)
		p.tell(at, topicOf("1"))
		p.readAtLeast("1", at).answer(at, "third")
		p.shows("1", "third")
	}},
	{Name: "notice-below-have", Section: Rule, Says: "Idle and `have < need`: refetch now", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(firstPosition), topicOf("1")) // what it has is from after that
		p.tell(rev(settled+0x40), topicOf("1"))
		p.readAtLeast("1", rev(settled+0x40))
		p.noRead("one was due")
	}},
	{Name: "notice-in-flight", Section: Rule, Says: "In flight: its end decides.", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(settled+0x50), topicOf("1"))
		first := p.read("1")
		p.tell(rev(settled+0x51), topicOf("1"))
		p.beat(rev(settled+0x51), 0)
		first.answer(rev(settled+0x50), "third")
		p.readAtLeast("1", rev(settled+0x51)).answer(rev(settled+0x51), "fourth")
		p.shows("1", "fourth")
		p.noRead("two were due, one for each notice")
	}},
	{Name: "answer-covers-notice", Section: Rule, Says: "Then, while `have < need`: fetch again", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(settled+0x60), topicOf("1"))
		first := p.read("1")
		p.tell(rev(settled+0x61), topicOf("1"))
		first.answer(rev(settled+0x61), "third")
		p.shows("1", "third")
		p.tell(rev(settled+0x62), topicOf("1"))
		p.readAtLeast("1", rev(settled+0x62))
	}},
	{Name: "older-answer", Section: Rule, Says: "keep the answer if S > `have`", client: func(p *play) {
		p.begin(listOf("1"))
		at := rev(settled + 0x70)
		p.tell(at, topicOf("1"))
		p.read("1").answer(rev(firstPosition-1), "from before")
		p.readAtLeast("1", at).answer(at, "third")
		p.shows("1", "third")
		p.neverShown("1", "from before")
	}},
	{Name: "stamp-below-need", Section: Rule, Says: "Then, while `have < need`: fetch again at-least `need`", client: func(p *play) {
		p.begin(listOf("1"))
		at := rev(settled + 0x81)
		p.tell(at, topicOf("1"))
		p.read("1").answer(rev(settled+0x80), "between")
		p.readAtLeast("1", at).answer(at, "third")
		p.shows("1", "third")
	}},
	{Name: "equal-stamp", Section: Rule, Says: "or S = `have` and its request was sent later", client: func(p *play) {
		p.begin(listOf("1"))
		have := rev(settled + 0x90)
		p.tell(have, topicOf("1"))
		p.read("1").answer(have, "third")
		p.shows("1", "third")
		p.tell(rev(settled+0x91), topicOf("1"))
		p.read("1").answer(have, "as of the same")
		p.shows("1", "as of the same")
	}},
	{Name: "own-write", Section: Rule, Says: "A mutation answered with stamp R and `Freshet-Topics` counts as an `invalidate` R of these topics.", client: func(p *play) {
		p.begin(listOf("1"), listOf("2"))
		p.mutate(rev(settled+0xa0) + " messages," + topicOf("2"))
		p.readAtLeast("2", rev(settled+0xa0))
	}},
	{Name: "own-write-encoded", Section: Calls, Says: "Split at commas, then percent-decode each.", client: func(p *play) {
		p.begin(listOf("1"), listOf("2"))
		p.mutate(rev(settled+0xb0) + " a%2Cb,conversations%2F2%2Fmessages")
		p.readAtLeast("2", rev(settled+0xb0))
	}},
	{Name: "own-write-without-topics", Section: Rule, Says: "Without topics: `need = R` for the queries that the mutation is known to touch", client: func(p *play) {
		p.begin(listOf("1"), listOf("2"))
		p.mutate(rev(settled+0xc0), "2")
		r := p.read("2")
		p.needf(r.atLeast == "" || r.atLeast == rev(settled+0xc0), "the read after the mutation is at-least %q; what is strong, or at-least %s, contains it", r.atLeast, rev(settled+0xc0))
	}},
}

// mutate has the client make a mutation that is answered as said: the stamp, a space,
// Freshet-Topics.
func (p *play) mutate(answer string, touches ...string) {
	request := map[string]any{"parent": "conversations/1", "message": map[string]string{"author": "a", "body": answer}}
	p.adapter.send(command{Do: "write", Procedure: service + "CreateMessage", Request: request, Touches: touches})
}
