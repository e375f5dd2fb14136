package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"
)

var failureCases = []Case{
	{Name: "unavailable-waits", Section: Calls, Says: "keep the need, wait as told, ask again", client: func(p *play) {
		p.begin(listOf("1"))
		p.waitsAsTold(rev(settled+0x100), func() {})
	}},
	{Name: "retry-info-is-least", Section: Calls, Says: "`RetryInfo` is a least wait: a `frontier` that comes meanwhile doesn't cut it short", client: func(p *play) {
		p.begin(listOf("1"))
		p.waitsAsTold(rev(settled+0x110), func() { p.beat(rev(settled+0x110), 0) })
	}},
	{Name: "error-is-no-data", Section: Calls, Says: "it is a failed attempt, whatever was held before stays", client: func(p *play) {
		p.begin(listOf("5"))
		at := rev(settled + 0x120)
		p.tell(at, topicOf("5"))
		p.read("5").fail(http.StatusInternalServerError, "internal", at) // the stamp counts for nothing
		again := p.readAtLeast("5", at)
		last, _ := p.adapter.last("5")
		p.needf(strings.Contains(last.shown(), "second of 5"), "after internal, %q is shown", last.shown())
		again.answer(at, "third")
		p.shows("5", "third")
	}},
	{Name: "not-found-is-an-answer", Section: Calls, Says: "These carry `Freshet-Revision`, and may be kept and shown like data", client: func(p *play) {
		p.begin(getOf("one"))
		p.tell(rev(settled+0x130), messageName)
		p.read("one").fail(http.StatusNotFound, "not_found", rev(settled+0x130))
		p.shows("one", "not_found")
		p.tell(rev(settled+0x131), messageName)
		p.readAtLeast("one", rev(settled+0x131)).answerOne(rev(settled+0x131), "third")
		p.shows("one", "third")
	}},
	{Name: "at-least-unknown", Section: Calls, Says: "forget it; ask without", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(settled+0x140), topicOf("1"))
		p.read("1").fail(http.StatusBadRequest, "invalid_argument", "", &errdetails.ErrorInfo{Domain: errorDomain, Reason: unknownReason})
		p.readAtLeast("1", "")
	}},
	{Name: "misspelled", Section: Calls, Says: "it is a mistake: don't repeat it, follow none of its topics", client: func(p *play) {
		p.auto.Store(false)
		p.launch(listOf("8"), listOf("08"))
		at := rev(settled + 0x1f0)
		asked := false
		for quiet := time.After(p.cfg.Patience); ; quiet = time.After(min(1500*time.Millisecond, p.cfg.Patience)) {
			select {
			case o := <-p.opens:
				if slices.Contains(o.topics, topicOf("08")) {
					o.misspelled(topicOf("08"))
				} else {
					o.ready(at, 15_000)
				}
			case r := <-p.reads:
				if r.name == "8" {
					r.answer(at, "first")
					continue
				}
				p.needf(!asked, "a request that was refused for its spelling came again")
				asked = true
				r.fail(http.StatusBadRequest, "invalid_argument", "", &errdetails.ErrorInfo{Domain: errorDomain, Reason: spelledReason})
			case <-quiet: // nothing can be waited for that would come after it
				p.shows("8", "first")
				return
			}
		}
	}},
	{Name: "epoch-changed", Section: Calls, Says: "drop every at-least of the older epoch, ask strongly", client: func(p *play) {
		p.begin(listOf("1"))
		p.tell(rev(settled+0x150), topicOf("1"))
		p.read("1").fail(http.StatusBadRequest, "failed_precondition", "", &errdetails.ErrorInfo{
			Domain: errorDomain, Reason: epochReason, Metadata: map[string]string{"epoch": "0000000b", "revision": nextRev(1)},
		})
		p.readAtLeast("1", "").answer(nextRev(1), "of the next epoch")
		p.shows("1", "of the next epoch")
	}},
	{Name: "no-stamp", Section: Calls, Says: "Show it, and hold it as unknown: any stamped answer replaces it", client: func(p *play) {
		p.begin(listOf("1"))
		p.unknownStamp("", settled+0x160)
	}},
	{Name: "malformed-stamp", Section: Revisions, Says: "is not a revision: treat it as unknown", client: func(p *play) {
		p.begin(listOf("1"))
		p.unknownStamp(strings.ToUpper(rev(settled+0x17f)), settled+0x170)
	}},
}

// waitsAsTold: a read that is unavailable is repeated when the wait is over, and asks for
// as much.
func (p *play) waitsAsTold(at string, meanwhile func()) {
	const wait = 700 * time.Millisecond
	p.tell(at, topicOf("1"))
	r := p.readAtLeast("1", at)
	told := time.Now()
	r.fail(http.StatusServiceUnavailable, "unavailable", "", &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	meanwhile()
	again := p.readAtLeast("1", at)
	p.needf(again.at.Sub(told) >= wait, "told to wait for %s, the client asked after %s", wait, again.at.Sub(told))
	again.answer(at, "third")
	p.shows("1", "third")
}

// unknownStamp: an answer whose stamp is none is shown, and replaced by the next.
func (p *play) unknownStamp(stamp string, position int) {
	p.tell(rev(position), topicOf("1"))
	value := fmt.Sprintf("of unknown age, %x", position)
	p.read("1").answer(stamp, value)
	p.shows("1", value)
	p.tell(rev(position+1), topicOf("1"))
	for !p.adapter.ever("1", "third") {
		select {
		case r := <-p.reads: // it may ask for the first notice again
			p.needf(r.atLeast == "" || shape.MatchString(r.atLeast), "Freshet-At-Least is %q", r.atLeast)
			r.answer(rev(position+1), "third")
		case <-p.adapter.watch():
		case <-time.After(p.cfg.Patience):
			p.failf("an answer without a stamp wasn't replaced; %s", p.adapter.summary())
		}
	}
}
