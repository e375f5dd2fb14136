package check_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freshet-dev/freshet/check"
)

// flaw is what is wrong with a node.
type flaw string

const (
	none           flaw = "nothing"
	drops          flaw = "drops one notice in a hundred"
	tellsEarly     flaw = "tells before visible"
	joinsAny       flaw = "joins a flight below the floor"
	trustsCache    flaw = "caches without validation"
	stampsWAL      flaw = "stamps from the end of the log"
	losesAtResume  flaw = "loses events at resume"
	reorders       flaw = "reorders"
	ignoresAtLeast flaw = "ignores at-least"
	oldEpoch       flaw = "answers with an old epoch"
	readyEarly     flaw = "ready before catch-up"

	// F68: what a checker doesn't see that lists the messages of conversations and
	// streams by GET.
	silentOnMessages    flaw = "never tells messages"
	silentOnAll         flaw = "never tells conversations/-/messages"
	silentOnItems       flaw = "never tells topics of single messages"
	ignoresTruncate     flaw = "doesn't tell TRUNCATE"
	ignoresCopy         flaw = "doesn't tell COPY"
	ignoresDelete       flaw = "doesn't tell DELETE"
	forgetsOldPlace     flaw = "tells of a row that moves only where it is now"
	noWatchdog          flaw = "has no watchdog"
	tellsNothingByWatch flaw = "tells nothing by Watch"
	tellsTheFirst       flaw = "tells the first of several topics"
	ignoresSinceByPost  flaw = "ignores since by POST"
	ignoresSinceByWatch flaw = "ignores since by Watch"
	ignoresSinceByTopic flaw = "ignores since_by_topic"
	putsIDsOnParts      flaw = "puts the id on every part of a list"
	tellsNoReset        flaw = "tells no reset when an epoch begins"
	beatsAhead          flaw = "heartbeats with the end of the log"
	saysNotModified     flaw = "answers every conditional GET by 304"
	tagsByNumber        flaw = "has one ETag for different answers"
	ignoresAtLeastByGet flaw = "ignores at-least by GET"
	trustsCacheOfCounts flaw = "caches ListConversations without validation"
	trustsCacheOfItems  flaw = "caches GetMessage without validation"
	keepsForStrong      flaw = "answers strongly from what it kept while a commit is held"
	leavesOneOut        flaw = "leaves one out of a list of all messages"
	countsTooMany       flaw = "counts too many"
	findsNothing        flaw = "doesn't find a message that is there"
	stampsNothing       flaw = "leaves out a stamp"
	stampsBefore        flaw = "stamps a mutation from before it"
	stampsEndedEpoch    flaw = "acknowledges with an ended epoch"
	namesTheFirst       flaw = "names the first of a mutation's topics"
	ignoresEmitted      flaw = "doesn't tell what pg_logical_emit_message says"
	turnsToOldPages     flaw = "has older rows on the second page of a list"

	// Topics out of the caller.
	silentOnCallers flaw = "never tells topics of callers"
	sharesCallers   flaw = "answers a caller by what it kept for another"
	judgesByAnother flaw = "judges what it kept for a caller by another one's topic"
	namesAnother    flaw = "says that an answer depends on another caller's topic"
	namesNobody     flaw = "doesn't say whose answer it is"
	tagsForAll      flaw = "has one ETag for the answers to all callers"

	// F86: what a failover has lost survives it.
	keepsOverFailover   flaw = "keeps answers over a failover"
	leavesStreamsBehind flaw = "leaves streams behind that were there before a failover"
)

// caughtBy says which rule each flaw breaks.
var caughtBy = map[flaw]string{
	none: "", drops: "G2", tellsEarly: "G1", joinsAny: "G6", trustsCache: "G6", stampsWAL: "G6",
	losesAtResume: "G2", reorders: "G4", ignoresAtLeast: "G1", oldEpoch: "G4", readyEarly: "G2",

	silentOnMessages: "G2", silentOnAll: "G2", silentOnItems: "G2", ignoresTruncate: "G2", ignoresCopy: "G2", ignoresDelete: "G2",
	forgetsOldPlace: "G2", noWatchdog: "G3", tellsNothingByWatch: "G2", tellsTheFirst: "G2", ignoresSinceByPost: "G2", ignoresSinceByWatch: "G2",
	ignoresSinceByTopic: "G2", putsIDsOnParts: "G2", tellsNoReset: "G2", beatsAhead: "G2", saysNotModified: "G6", tagsByNumber: "G6",
	ignoresAtLeastByGet: "G1", trustsCacheOfCounts: "G6", trustsCacheOfItems: "G6", keepsForStrong: "G5", leavesOneOut: "G6",
	countsTooMany: "G6", findsNothing: "G6", stampsNothing: "G6", stampsBefore: "G5", stampsEndedEpoch: "G5", namesTheFirst: "G5",
	silentOnCallers: "G2", sharesCallers: "G6", judgesByAnother: "G6", namesAnother: "G2", namesNobody: "G2", tagsForAll: "G6",
	ignoresEmitted: "G2", turnsToOldPages: "G6", keepsOverFailover: "G6", leavesStreamsBehind: "G3",
}

// TestRun_brokenServers, F68: the judge is judged. Each broken double of a server
// is caught by the rule that it breaks, and the same double without a flaw is not.
func TestRun_brokenServers(t *testing.T) {
	t.Parallel()
	// Runs mostly wait, so there are more of them than t.Parallel would have.
	const atOnce = 4
	turns := make(chan struct{}, atOnce)
	type running struct {
		flaw  flaw
		rule  string
		ended chan outcome
	}
	var started []running
	var all sync.WaitGroup
	for flaw, rule := range caughtBy {
		n := newNode(t, flaw)
		ended := make(chan outcome, 1)
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			ended <- n.judge(t.Context(), rule)
		})
		started = append(started, running{flaw, rule, ended})
	}
	t.Cleanup(all.Wait)
	for _, r := range started {
		t.Run(string(r.flaw), func(t *testing.T) {
			o := <-r.ended
			require.NoError(t, o.err)
			var text strings.Builder
			require.NoError(t, o.report.WriteText(&text))
			if r.flaw == none {
				requireNoViolation(t, o.report)
				require.Positive(t, o.report.Notice.N)
				require.Positive(t, o.report.Data.N)
				require.Positive(t, o.report.Lost, "F86: commits that were acknowledged")
				for _, e := range o.report.Exercised {
					require.True(t, e.N > 0 || e.Needs == noStandby, e.Exercise)
				}
				return
			}
			require.Contains(t, o.broken(), r.rule, text.String())
			for _, v := range o.report.Verdicts {
				if v.Violations > 0 {
					requireShown(t, v)
				}
			}
			t.Logf("%s: %v", r.flaw, o.broken())
		})
	}
}

// outcome is what became of a run.
type outcome struct {
	report *check.Report
	err    error
}

// broken counts violations by rule.
func (o outcome) broken() map[string]int {
	broken := map[string]int{}
	if o.report == nil {
		return broken
	}
	for _, v := range o.report.Verdicts {
		if v.Violations > 0 {
			broken[v.Rule] = v.Violations
		}
	}
	return broken
}

// judge runs the checker until the rule is broken; without a rule, until
// everything was exercised, a failover that loses commits too. Two seconds are enough as
// a rule; where the machine has no time for clients, it takes longer and longer runs.
func (n *node) judge(ctx context.Context, rule string) (o outcome) {
	end := time.Now().Add(4 * time.Minute)
	for attempt := 0; ctx.Err() == nil && time.Now().Before(end); attempt++ {
		o = n.judgeOnce(ctx, uint64(attempt+1), 2*time.Second<<min(attempt, 4)) //nolint:gosec // not negative
		broken := o.broken()
		if o.err != nil || broken[rule] > 0 || rule == "" && (len(broken) > 0 || o.complete() && o.report.Lost > 0) {
			return o
		}
	}
	return o
}

// complete says that everything was exercised.
func (o outcome) complete() bool {
	return !slices.ContainsFunc(o.report.Exercised, func(e check.Exercised) bool { return e.N == 0 && e.Needs != noStandby })
}

// judgeOnce runs the checker for two rounds, or until something is wrong.
func (n *node) judgeOnce(ctx context.Context, seed uint64, length time.Duration) outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := check.Config{
		URL: n.url, Workload: withCallers(), TokenOf: tokenOf, Database: n.world, Run: fmt.Sprintf("test%d", seed), Seed: seed, Duration: length, Round: length / 2,
		Clients: 12, Places: 6, Writers: 3, Rate: 120,
		Stage:     &check.Stage{}, // the world is the checker's own
		Condemned: func(*check.History) { cancel() },
	}
	if n.flaw == none {
		cfg.Patience = time.Minute // a busy machine is no flaw
	}
	report, err := check.Run(ctx, cfg)
	return outcome{report, err}
}

// requireShown: the excerpt is short, and condemned by the same rule. It has a write for
// each row that a read shows, at most. What a count lacks only all writes can show that
// say of a row whether it is in the one place, also those that leave it there, and no
// others.
func requireShown(t *testing.T, v check.Verdict) {
	t.Helper()
	excerpt := v.Shortest.Excerpt
	text := excerpt.String()
	short := 8
	for _, read := range excerpt.Reads {
		short += len(read.Cells)
	}
	if reads := excerpt.Reads; len(reads) == 1 && reads[0].Topic == check.Counted && ofOnePlace(excerpt.Writes) {
		short += len(excerpt.Writes)
	}
	require.LessOrEqual(t, strings.Count(text, "\n"), short, text)
	require.Positive(t, verdict(t, parse(t, text), v.Rule).Violations, "%s: the excerpt shows nothing:\n%s", v.Rule, text)
}

// ofOnePlace reports whether there is a place that each write has a row in, before it
// or after it.
func ofOnePlace(writes []check.Write) bool {
	in := map[string]int{}
	for _, w := range writes {
		places := map[string]bool{}
		for _, c := range w.Changes {
			places[c.From], places[c.To] = true, true
		}
		for place := range places {
			in[place]++
		}
	}
	delete(in, "")
	return slices.Contains(slices.Collect(maps.Values(in)), len(writes))
}

// noStandby is what is missing, without a standby, for reads on one.
const noStandby = "--cluster; Stage.Standby"
