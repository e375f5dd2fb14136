import fc from "fast-check";
import { expect, test } from "vitest";
import { isBefore, isEarlierEpoch, laterOf, type Revision } from "../src/revision.js";
import { Rule, type Flight, type Input, type Step } from "../src/rule.js";
import { rev } from "./server.js";

/** A request under way at the server. */
interface Request {
  readonly flight: Flight;
  readonly repeated: boolean;
  /** Set once the query has run. */
  result?: { readonly content: number; readonly stamp: Revision | undefined; readonly refused: boolean };
}

/**
 * A server with one topic, its stream, and one query driven as the binding to
 * TanStack Query drives it: one fetch at a time, repeated inside at most once,
 * called off or replaced at any moment.
 */
class World {
  readonly rule = new Rule();
  epoch = 1;
  position = 1;
  content = 1;
  /** The content at each revision. */
  readonly at = new Map<Revision, number>();
  /** Not yet delivered. */
  stream: Input[] = [];
  connected = true;
  request: Request | undefined;
  /** Requests that were called off: their answers go nowhere. */
  ordered = false;
  paused = false;
  shown: number | undefined;
  /** What is shown had no stamp: it can't be compared with an answer that was kept. */
  unstamped = false;
  /** A mutation is under way, and the page has written since the last answer. */
  mutating = false;
  shownEpoch = 0;
  /** The highest epoch that this query was told of. */
  toldEpoch = 0;
  requests = 0;
  heard: Revision | undefined;

  constructor() {
    this.at.set(this.now, this.content);
    this.stream.push({ type: "ready", revision: this.now });
    this.do({ type: "watch" });
  }

  get now(): Revision {
    return rev(this.position, this.epoch);
  }

  do(input: Input): void {
    const step: Step = this.rule.on(input);
    if (step.fetch) this.ordered = true;
    if (step.pause) {
      expect(this.rule.phase).toBe("pausing");
      this.paused = true;
    }
    expect(Object.keys(step).length).toBeLessThanOrEqual(1);
    this.check();
  }

  check(): void {
    const { phase, watched, held, fresh, have } = this.rule;
    if (phase !== "pausing") this.paused = false;
    expect((phase === "flying") === (this.request !== undefined)).toBe(true);
    if (phase === "resting" && watched && held && !fresh) expect(this.ordered).toBe(true); // G3
    const then = have && this.at.get(have);
    // G6: have is no lie.
    if (then !== undefined && held && !this.mutating) expect(this.shown!).toBeGreaterThanOrEqual(then);
  }

  /** Somebody begins a fetch: TanStack Query, the page, or the rule. */
  fetch(): void {
    if (this.request) return;
    this.send(false);
  }

  send(repeated: boolean): void {
    this.ordered = false;
    this.requests++;
    const heard = this.connected ? this.heard : undefined;
    this.request = { flight: this.rule.begin({ heard }), repeated };
    this.check();
  }

  /** The server runs the query. */
  process(stamped: boolean): void {
    const { request } = this;
    if (!request || request.result) return;
    const { atLeast } = request.flight;
    const refused = atLeast !== undefined && isEarlierEpoch(atLeast, this.now);
    request.result = { content: this.content, stamp: stamped ? this.now : undefined, refused };
  }

  /** An older answer that a node has kept, as far as at-least allows. */
  reuse(ago: number): void {
    const { request } = this;
    const atLeast = request?.flight.atLeast;
    if (!request || request.result || this.unstamped || !atLeast || atLeast.slice(0, 8) !== this.now.slice(0, 8)) return;
    const stamp = rev(Math.max(this.position - ago, Number.parseInt(atLeast.slice(9), 16)), this.epoch);
    const content = this.at.get(stamp);
    if (content !== undefined) request.result = { content, stamp, refused: false };
  }

  /** An answer leads to another history before the stream does. */
  ahead(ago: number): void {
    if (this.request || !this.connected) return;
    this.stream = [];
    this.newEpoch(1);
    this.commit(true);
    this.rule.strong = true;
    this.send(false);
    this.process(true);
    this.land();
    this.deliver();
    if (this.paused) this.do({ type: "timer" });
    if (this.ordered) this.fetch();
    this.reuse(ago);
  }

  /** The answer arrives. */
  land(): void {
    const { request } = this;
    if (!request?.result) return;
    const { content, stamp, refused } = request.result;
    this.request = undefined;
    if (refused) {
      this.request = request;
      // EPOCH_CHANGED: told at once, and repeated strongly within the fetch.
      this.do({ type: "reset", revision: this.now });
      this.toldEpoch = this.epoch;
      this.rule.strong = true;
      this.send(request.repeated);
      return;
    }
    const verdict = this.rule.judge(request.flight, stamp, request.repeated);
    if (verdict === "again") {
      this.send(true);
      return;
    }
    if (verdict === "drop") {
      this.do(this.rule.held ? { type: "dropped" } : { type: "failure" });
      return;
    }
    // G4, F34.
    if (this.shown !== undefined) expect(content).toBeGreaterThanOrEqual(this.shown);
    if (stamp) expect(Number.parseInt(stamp.slice(0, 8), 16)).toBeGreaterThanOrEqual(this.toldEpoch);
    this.shown = content;
    this.unstamped = stamp === undefined;
    this.mutating = false;
    this.do({ type: "answer", flight: request.flight, stamp });
  }

  fail(): void {
    if (!this.request) return;
    this.request = undefined;
    this.do({ type: "failure" });
  }

  cancel(): void {
    if (!this.request) return;
    this.request = undefined;
    this.do({ type: "cancelled" });
  }

  /** A refetch in place of the one under way, whose answer goes nowhere. */
  replace(): void {
    if (!this.request) return;
    this.send(false);
  }

  /** A mutation's callback puts back what was shown before. */
  putBack(ago: number): void {
    if (this.shown === undefined) return;
    this.shown -= ago;
    this.unstamped = true;
    this.mutating = true;
    this.do({ type: "written", patch: true });
  }

  mutated(): void {
    if (!this.mutating) return;
    this.mutating = false;
    this.do({ type: "written", late: true });
  }

  commit(onTopic: boolean): void {
    this.position++;
    if (onTopic) {
      this.content++;
      if (this.connected) this.stream.push({ type: "invalidate", revision: this.now });
    }
    this.at.set(this.now, this.content);
  }

  deliver(): void {
    const input = this.stream.shift();
    if (!input) return;
    const { revision } = input as { revision: Revision };
    if (!isEarlierEpoch(revision, this.heard)) {
      this.heard = input.type === "reset" ? revision : laterOf(this.heard, revision);
      this.toldEpoch = Number.parseInt(this.heard.slice(0, 8), 16);
    }
    this.do(input);
    if (input.type === "invalidate" && !isBefore(this.heard, revision)) this.do({ type: "heard", revision });
  }

  newEpoch(position: number): void {
    this.epoch++;
    this.position = position;
    this.content++;
    this.at.set(this.now, this.content);
    this.stream = this.connected ? [...this.stream, { type: "reset", revision: this.now }] : [];
  }

  lose(): void {
    this.connected = false;
    this.stream = [];
  }

  /** Reconnected: the catch-up, then ready, at which nothing is known of before. */
  reconnect(): void {
    if (this.connected) return;
    this.connected = true;
    const type = isEarlierEpoch(this.heard ?? this.now, this.now) ? "reset" : "ready";
    this.stream = [{ type, revision: this.now }];
  }
}

const actions: Record<string, (world: World, n: number) => void> = {
  change: (world) => world.commit(true),
  other: (world) => world.commit(false),
  heartbeat: (world) => {
    if (world.connected) world.stream.push({ type: "heard", revision: world.now, retry: true });
  },
  deliver: (world) => world.deliver(),
  lose: (world) => world.lose(),
  reconnect: (world) => world.reconnect(),
  epoch: (world, n) => world.newEpoch(1 + n),
  reset: (world) => {
    if (world.connected) world.stream.push({ type: "reset", revision: world.now });
  },
  fetch: (world) => world.fetch(),
  process: (world) => world.process(true),
  unstamped: (world) => world.process(false),
  reuse: (world, n) => world.reuse(1 + n),
  ahead: (world, n) => world.ahead(n),
  land: (world) => world.land(),
  fail: (world) => world.fail(),
  cancel: (world) => world.cancel(),
  replace: (world) => world.replace(),
  timer: (world) => {
    if (world.paused) world.do({ type: "timer" });
  },
  ordered: (world) => {
    if (world.ordered) world.fetch();
  },
  watch: (world) => {
    if (!world.rule.watched) world.do({ type: "watch" });
  },
  unwatch: (world) => {
    if (world.rule.watched) world.do({ type: "unwatch" });
  },
  poll: (world) => world.do({ type: "poll" }),
  another: (world) => world.do({ type: "another" }),
  putBack: (world, n) => world.putBack(n),
  mutated: (world) => world.mutated(),
};

const step = fc.record({ name: fc.constantFrom(...Object.keys(actions)), n: fc.nat(20) });

test("any order of fetches, answers, notices, resets, epochs, reconnects", { timeout: 60_000 }, () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const world = new World();
      for (const { name, n } of steps) actions[name]!(world, n);

      // Writes stop, the network heals, somebody looks: it converges (G3), and
      // not by fetching on and on.
      world.reconnect();
      world.mutated();
      if (!world.rule.watched) world.do({ type: "watch" });
      if (world.shown === undefined) world.fetch();
      const before = world.requests;
      const done = () =>
        world.stream.length === 0 && !world.request && !world.ordered && world.rule.phase === "resting";
      for (let n = 0; !done(); n++) {
        expect(n).toBeLessThan(200);
        if (world.stream.length > 0) world.deliver();
        else if (world.request) {
          world.process(true);
          world.land();
        } else if (world.ordered) world.fetch();
        else world.do({ type: "timer" });
      }
      expect(world.shown).toBe(world.content);
      expect(world.rule.fresh).toBe(true);
      expect(world.requests - before).toBeLessThanOrEqual(6);
    }),
    { numRuns: 2000 },
  );
});
