import { describe, expect, test } from "vitest";
import { firstPauseMs, longestPauseMs, Rule, type Flight } from "../src/rule.js";
import { rev } from "./server.js";

/** A rule, watched, that holds an answer stamped at position 1. */
function fetched(): Rule {
  const rule = new Rule();
  rule.on({ type: "watch" });
  rule.on({ type: "ready", revision: rev(1) });
  const flight = rule.begin({ heard: rev(1) });
  expect(flight.atLeast).toBe(rev(1));
  expect(rule.on({ type: "answer", flight, stamp: rev(1) })).toEqual({});
  expect(rule.phase).toBe("resting");
  return rule;
}

/** Begins the fetch that a step ordered. */
function fly(rule: Rule, heard = rule.need): Flight {
  return rule.begin({ heard });
}

describe("the rule", () => {
  test("a first fetch is not ordered: whoever mounts begins it", () => {
    const rule = new Rule();
    expect(rule.on({ type: "watch" })).toEqual({});
    expect(rule.on({ type: "ready", revision: rev(5) })).toEqual({});
    expect(rule.begin({}).atLeast).toBeUndefined(); // no stream: strong
  });

  test("an invalidation orders a fetch, at-least it", () => {
    const rule = fetched();
    expect(rule.on({ type: "invalidate", revision: rev(2) })).toEqual({ fetch: true });
    expect(fly(rule).atLeast).toBe(rev(2));
  });

  test("one that nobody watches only marks", () => {
    const rule = fetched();
    rule.on({ type: "unwatch" });
    expect(rule.on({ type: "invalidate", revision: rev(2) })).toEqual({ mark: true });
    expect(rule.on({ type: "watch" })).toEqual({ fetch: true });
  });

  test("spread_ms is waited for", () => {
    const rule = fetched();
    const step = rule.on({ type: "invalidate", revision: rev(2), spreadMs: 500 });
    expect(step).toEqual({ pause: { leastMs: 0, spreadMs: 500 } });
    expect(rule.on({ type: "heard", revision: rev(3), retry: true })).toEqual({}); // patient
    expect(rule.on({ type: "timer" })).toEqual({ fetch: true });
  });

  test("a frontier raises have where all was told", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(9) });
    expect(rule.have).toBe(rev(9));
    rule.on({ type: "invalidate", revision: rev(10) });
    rule.on({ type: "heard", revision: rev(11) });
    expect(rule.have).toBe(rev(9));
  });

  test("a strong answer that was asked for later is kept, though its stamp is lower", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(9) });
    const flight = rule.begin({});
    expect(rule.judge(flight, rev(8), false)).toBe("keep");
    rule.on({ type: "answer", flight, stamp: rev(8) });
    expect(rule.have).toBe(rev(9));
  });

  test("an older answer is dropped, unless nothing is held", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(9) });
    expect(rule.judge(rule.begin({ heard: rev(9) }), rev(8), false)).toBe("drop");
    const first = new Rule();
    expect(first.judge(first.begin({ heard: rev(9) }), rev(8), false)).toBe("keep");
  });

  // F35: it may be older, whatever its stamp.
  test("data of unknown age is not replaced by what was asked for before it came", () => {
    const rule = fetched();
    const flight = rule.begin({ heard: rev(1) });
    rule.on({ type: "written" });
    expect(rule.judge(flight, rev(2), false)).toBe("drop");
    rule.on({ type: "dropped" });
    expect(rule.judge(rule.begin({ heard: rev(1) }), rev(1), false)).toBe("keep");
  });

  test("data that was put back is replaced by what was asked for since, and by nothing else", () => {
    const rule = fetched();
    rule.on({ type: "watch" });
    const before = rule.begin({ heard: rev(1) });
    rule.on({ type: "written", stamp: rev(1) });
    rule.on({ type: "invalidate", revision: rev(1) });
    rule.on({ type: "written", late: true });
    expect(rule.fresh).toBe(false);
    expect(rule.judge(before, rev(2), false)).toBe("drop");
    expect(rule.on({ type: "dropped" })).toEqual({ fetch: true });
    const since = rule.begin({ heard: rev(1) });
    rule.on({ type: "written", late: true });
    expect(rule.judge(since, rev(1), false)).toBe("keep");
    rule.on({ type: "answer", flight: since, stamp: rev(1) });
    expect(rule.fresh).toBe(true);
  });

  test("after a reset, data that came since the request was sent is not replaced by its answer", () => {
    const rule = fetched();
    const flight = rule.begin({ heard: rev(1) });
    rule.on({ type: "written", stamp: rev(2) });
    rule.on({ type: "reset", revision: rev(3) });
    expect(rule.judge(flight, rev(3), false)).toBe("drop");
  });

  test("an answer without a stamp, asked for before a reset, is dropped", () => {
    const rule = fetched();
    const flight = rule.begin({ heard: rev(1) });
    rule.on({ type: "reset", revision: rev(1, 2) });
    expect(rule.judge(flight, undefined, false)).toBe("drop");
    const first = new Rule();
    const early = first.begin({ heard: rev(1) });
    first.on({ type: "reset", revision: rev(1, 2) });
    expect(first.judge(early, undefined, false)).toBe("again");
    expect(first.judge(early, undefined, true)).toBe("drop");
  });

  // F34.
  test("positions of different epochs are never compared", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(100) });
    const old = fly(rule);
    rule.on({ type: "reset", revision: rev(5, 2) });
    expect(rule.judge(old, rev(100), false)).toBe("drop");
    expect(rule.on({ type: "dropped" })).toEqual({ pause: { leastMs: 0, spreadMs: 1000 } });
    expect(rule.on({ type: "timer" })).toEqual({ fetch: true });
    const flight = fly(rule);
    expect(flight.atLeast).toBe(rev(5, 2));
    rule.on({ type: "answer", flight, stamp: rev(5, 2) });
    for (const type of ["invalidate", "ready", "heard"] as const) {
      expect(rule.on({ type, revision: rev(200) })).toEqual({}); // an old node still talks
    }
    expect(rule).toMatchObject({ phase: "resting", need: rev(5, 2), have: rev(5, 2) });
  });

  test("a higher epoch, however it is learned, is read with jitter", () => {
    for (const type of ["invalidate", "ready", "heard"] as const) {
      const rule = fetched();
      expect(rule.on({ type, revision: rev(1, 2) })).toEqual({ pause: { leastMs: 0, spreadMs: 1000 } });
    }
  });

  // F35: fetches ever further apart.
  test("stamps that are never known", () => {
    const rule = fetched();
    let step = rule.on({ type: "invalidate", revision: rev(2) });
    let fetches = 0;
    for (let waited = 0; waited < 3_600_000; ) {
      if (step.pause) {
        expect(step.pause.leastMs).toBeLessThanOrEqual(longestPauseMs);
        waited += step.pause.leastMs;
        step = rule.on({ type: "timer" });
      }
      expect(++fetches).toBeLessThan(150);
      expect(step).toEqual({ fetch: true });
      step = rule.on({ type: "answer", flight: fly(rule) });
    }
    expect(rule.have).toBeUndefined();
  });

  test("a failure backs off, and RetryInfo is waited for", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(2) });
    fly(rule);
    expect(rule.on({ type: "failure" }).pause?.leastMs).toBe(firstPauseMs);
    // Notices come as often as others write; heartbeats don't.
    expect(rule.on({ type: "heard", revision: rev(2) })).toEqual({});
    expect(rule.on({ type: "heard", revision: rev(2), retry: true })).toEqual({ fetch: true });
    fly(rule);
    expect(rule.on({ type: "failure", waitMs: 60_000 }).pause?.leastMs).toBe(60_000);
    expect(rule.on({ type: "heard", revision: rev(2), retry: true })).toEqual({});
  });

  test("a failure that is final is not asked again, but by whoever has a reason", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(2) });
    fly(rule);
    expect(rule.on({ type: "failure", final: true })).toEqual({ mark: true });
    expect(rule.phase).toBe("resting");
    expect(rule.on({ type: "heard", revision: rev(2), retry: true })).toEqual({});
    expect(rule.on({ type: "invalidate", revision: rev(3) })).toEqual({ fetch: true });
  });

  test("a fetch that was called off is not begun again at once", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(2) });
    fly(rule);
    expect(rule.on({ type: "cancelled" }).pause?.leastMs).toBe(firstPauseMs);
  });

  test("a failed fetch of what nobody watches rests", () => {
    const rule = new Rule();
    rule.begin({});
    expect(rule.on({ type: "failure" })).toEqual({});
    expect(rule.phase).toBe("resting");
  });

  test("a poll reads strongly", () => {
    const rule = fetched();
    expect(rule.on({ type: "poll" })).toEqual({ fetch: true });
    const poll = rule.begin({ heard: rev(1) });
    expect(poll.atLeast).toBeUndefined();
    rule.on({ type: "answer", flight: poll, stamp: rev(2) });
    expect(rule.begin({ heard: rev(2) }).atLeast).toBe(rev(1)); // that one only
  });

  // G4: an answer led to another history; the stream comes there later, by the reset
  // of a node that is behind.
  test("a reset to the history of the data: what replaces it is no older", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(9) });
    expect(rule.on({ type: "reset", revision: rev(5) }).pause).toBeDefined();
    expect(rule).toMatchObject({ have: rev(9), fresh: false });
    rule.on({ type: "heard", revision: rev(20) });
    expect(rule).toMatchObject({ have: rev(9), fresh: false }); // a frame doesn't speak of it
    rule.on({ type: "timer" });
    const flight = fly(rule);
    expect(flight.atLeast).toBe(rev(9));
    expect(rule.judge(flight, rev(7), true)).toBe("drop");
    rule.on({ type: "answer", flight, stamp: rev(9) });
    expect(rule).toMatchObject({ have: rev(9), fresh: true });
  });

  test("a reset from the future: the server doesn't know the data's age, and then nobody does", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(1000) });
    rule.on({ type: "reset", revision: rev(50) });
    rule.on({ type: "timer" });
    const flight = fly(rule);
    rule.on({ type: "unknown", atLeast: rev(1000) });
    expect(rule).toMatchObject({ have: undefined, fresh: false });
    expect(rule.judge(flight, rev(51), true)).toBe("keep"); // it asked again, strongly
    rule.on({ type: "answer", flight, stamp: rev(51) });
    expect(rule).toMatchObject({ have: rev(51), fresh: true });
  });

  // F77: a stream's reset wins.
  test("a reset of a lower epoch: what is of the history that was left is dropped", () => {
    const rule = new Rule();
    rule.on({ type: "watch" });
    const first = rule.begin({});
    rule.on({ type: "answer", flight: first, stamp: rev(3, 2) });
    const slow = rule.begin({ heard: rev(3, 2) });
    expect(rule.on({ type: "reset", revision: rev(5) })).toEqual({});
    expect(rule).toMatchObject({ need: rev(5), have: undefined, fresh: false });
    expect(rule.judge(slow, rev(9, 2), true)).toBe("drop");
    expect(rule.on({ type: "dropped" }).pause).toBeDefined();
    expect(rule.on({ type: "timer" })).toEqual({ fetch: true });
    const flight = fly(rule);
    expect(flight.atLeast).toBe(rev(5));
    expect(rule.judge(flight, rev(10, 2), true)).toBe("drop"); // by a node that doesn't know yet
    expect(rule.judge(flight, rev(6), true)).toBe("keep");
    rule.on({ type: "answer", flight, stamp: rev(6) });
    expect(rule).toMatchObject({ have: rev(6), fresh: true });
    rule.on({ type: "invalidate", revision: rev(11, 2) }); // the stream goes there again
    expect(rule.need).toBe(rev(11, 2));
    expect(rule.judge(fly(rule), rev(11, 2), true)).toBe("keep");
  });

  test("an at-least that the server doesn't know is forgotten", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(1000) });
    const flight = fly(rule);
    expect(rule.on({ type: "unknown", atLeast: rev(1000) })).toEqual({});
    expect(rule.fresh).toBe(false);
    // The strong read that follows fails: the next is as strong.
    expect(rule.on({ type: "failure" }).pause).toBeDefined();
    rule.on({ type: "timer" });
    const again = fly(rule);
    expect(again.atLeast).toBeUndefined();
    expect(rule.judge(again, rev(7), false)).toBe("keep");
    rule.on({ type: "answer", flight: again, stamp: rev(7) });
    expect(rule).toMatchObject({ have: rev(7), fresh: true, phase: "resting" });
    expect(flight.atLeast).toBe(rev(1000));
    expect(rule.on({ type: "invalidate", revision: rev(8) })).toEqual({ fetch: true });
    expect(fly(rule).atLeast).toBe(rev(8));
  });

  test("what was told since an unknown at-least was asked for stays needed", () => {
    const rule = fetched();
    rule.on({ type: "invalidate", revision: rev(5) });
    fly(rule);
    rule.on({ type: "invalidate", revision: rev(6) });
    rule.on({ type: "unknown", atLeast: rev(5) });
    expect(rule.need).toBe(rev(6));
  });

  test("of two answers with one stamp, that of the later request stays", () => {
    const rule = fetched();
    const first = rule.begin({ heard: rev(1) });
    const second = rule.begin({ heard: rev(1) });
    rule.on({ type: "answer", flight: second, stamp: rev(2) });
    expect(rule.judge(first, rev(2), true)).toBe("drop");
    expect(rule.judge(rule.begin({ heard: rev(1) }), rev(2), true)).toBe("keep");
  });

  // F88.
  test("a ready says nothing of the time before it", () => {
    const rule = fetched();
    expect(rule.on({ type: "ready", revision: rev(9) })).toEqual({ fetch: true });
    expect(rule).toMatchObject({ need: rev(9), have: rev(1) });
  });

  // F90.
  test("older data that came from elsewhere is as old as it is", () => {
    const rule = fetched();
    rule.on({ type: "heard", revision: rev(20) });
    rule.on({ type: "written", stamp: rev(10) });
    expect(rule.have).toBe(rev(10));
    rule.on({ type: "written" });
    expect(rule.have).toBeUndefined();
  });

  test("a page more makes the whole as old as its oldest", () => {
    const rule = fetched();
    const next = rule.begin({ heard: rev(1), partial: true });
    rule.on({ type: "answer", flight: next, stamp: rev(9) });
    expect(rule.have).toBe(rev(1));
    const older = rule.begin({ heard: rev(1), partial: true });
    expect(rule.judge(older, rev(0x0f, 1), false)).toBe("keep");
  });
});
