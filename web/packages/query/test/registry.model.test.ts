import fc from "fast-check";
import { expect, test } from "vitest";
import { Registry, type Entry } from "../src/registry.js";
import { isBefore, type Revision } from "../src/revision.js";
import type { Flight, Step } from "../src/rule.js";
import { rev } from "./server.js";

const all = ["a", "b", "c"];

/** What the rows under each topic were, by revision. */
class Database {
  position = 10;
  readonly #changes: { readonly topic: string; readonly at: number }[] = [];

  commit(topic: string): number {
    this.#changes.push({ topic, at: ++this.position });
    return this.position;
  }

  /** The last change of a topic up to a position; 0: none. */
  last(topic: string, at = this.position): number {
    return this.#changes.findLast((change) => change.topic === topic && change.at <= at)?.at ?? 0;
  }
}

interface Query {
  readonly entry: Entry<Query>;
  /** The position that its data is of. */
  shown?: number;
  flight?: { readonly flight: Flight; readonly answer: number };
  ordered: boolean;
}

/**
 * Queries that come, with and without data of any age, share topics and go; a
 * server whose stream is opened for the topics that are wanted, each from where
 * the registry says. G3 and G6 over all of it (F88, F90).
 */
class World {
  readonly database = new Database();
  readonly queries = new Set<Query>();
  readonly registry: Registry<Query> = new Registry((entry, step) => this.act(entry, step));
  readonly followed = new Set<string>();
  /** Topics without a since, of which `ready` has been told. */
  notices: { readonly topic: string; readonly at: number }[] = [];

  act({ query }: Entry<Query>, step: Step): void {
    if (step.fetch) query.ordered = true;
    if (step.pause) query.ordered = true; // its timer
  }

  open(topics: readonly string[], stamp: number | undefined, data: boolean): void {
    const query = { ordered: false } as Query & { entry: Entry<Query> };
    query.entry = this.registry.add(query);
    this.queries.add(query);
    if (data) {
      query.shown = stamp ?? 0;
      this.registry.written(query.entry, stamp === undefined ? undefined : rev(stamp));
    }
    this.registry.setTopics(query.entry, topics);
    this.registry.on(query.entry, { type: "watch" });
    if (!data) this.send(query); // whoever mounts begins it
  }

  close(query: Query): void {
    this.registry.remove(query.entry);
    this.queries.delete(query);
  }

  /** Data of an age is put in place of what a query holds. */
  hydrate(query: Query, stamp: number): void {
    if (query.flight) return;
    query.shown = stamp;
    this.registry.written(query.entry, rev(stamp));
  }

  /** The subscription follows the queries' topics. */
  sync(): void {
    while (this.notices.length > 0) this.deliver();
    this.registry.forget();
    const { topics } = this.registry;
    for (const topic of this.followed) if (!topics.has(topic)) this.followed.delete(topic);
    for (const topic of topics) {
      if (this.followed.has(topic)) continue;
      this.followed.add(topic);
      const since = this.registry.subscribe(topic);
      const last = this.database.last(topic);
      if (!since) this.registry.tell("ready", rev(this.database.position), [topic]);
      else if (isBefore(since, rev(last))) this.registry.tell("invalidate", rev(last), [topic]);
    }
    this.heard(this.database.position, false);
  }

  heard(at: number, retry: boolean): void {
    this.registry.heard(rev(at), retry, (topic) => this.followed.has(topic));
  }

  commit(topic: string): void {
    const at = this.database.commit(topic);
    if (this.followed.has(topic)) this.notices.push({ topic, at });
  }

  deliver(): void {
    const notice = this.notices.shift();
    if (!notice) return;
    this.registry.tell("invalidate", rev(notice.at), [notice.topic]);
    this.heard(notice.at, false);
  }

  heartbeat(): void {
    if (this.notices.length === 0) this.heard(this.database.position, true);
  }

  /** The read is run now; at-least, it may be answered by what was kept. */
  send(query: Query, ago = 0): void {
    query.ordered = false;
    const flight = query.entry.rule.begin({ heard: this.followed.size > 0 ? rev(10) : undefined });
    const least = flight.atLeast ? Number.parseInt(flight.atLeast.slice(9), 16) : this.database.position;
    query.flight = { flight, answer: Math.max(least, this.database.position - ago) };
  }

  land(query: Query): void {
    const { flight, answer } = query.flight!;
    const stamp = rev(answer);
    query.flight = undefined;
    const kept = query.entry.rule.judge(flight, stamp, true) === "keep";
    if (kept) query.shown = answer;
    this.registry.on(query.entry, kept ? { type: "answer", flight, stamp } : { type: "dropped" });
  }

  check(): void {
    for (const { entry, shown } of this.queries) {
      const { have } = entry.rule;
      if (!have || shown === undefined) continue;
      const at = Number.parseInt(have.slice(9), 16);
      // G6: what is shown holds all that was committed up to have.
      for (const topic of entry.topics) {
        expect(this.database.last(topic, shown), `${topic} shown of ${shown}, have ${at}`).toBe(
          this.database.last(topic, at),
        );
      }
    }
  }
}

const step = fc.record({
  name: fc.constantFrom("open", "open", "close", "hydrate", "sync", "commit", "commit", "deliver", "deliver", "heartbeat", "send", "land"),
  topics: fc.subarray(all, { minLength: 1 }),
  pick: fc.nat(100),
  ago: fc.nat(12),
  how: fc.nat(3),
});

test("any order of queries, hydrations, notices and answers", { timeout: 60_000 }, () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const world = new World();
      for (const { name, topics, pick, ago, how } of steps) {
        const queries = [...world.queries];
        const query = queries[pick % Math.max(1, queries.length)];
        const past = world.database.position - ago;
        if (name === "open") world.open(topics, how === 0 ? undefined : Math.max(1, past), how > 1);
        else if (name === "commit") world.commit(all[pick % 3]!);
        else if (name === "sync") world.sync();
        else if (name === "deliver") world.deliver();
        else if (name === "heartbeat") world.heartbeat();
        else if (!query) continue;
        else if (name === "close") world.close(query);
        else if (name === "hydrate") world.hydrate(query, Math.max(1, past));
        else if (name === "send" && query.ordered && !query.flight) world.send(query, ago);
        else if (name === "land" && query.flight) world.land(query);
        // Topics are told to the stream in the same turn or soon after.
        if (name === "open" && how % 2 === 0) world.sync();
        world.check();
      }
      world.sync();
      for (let n = 0; [...world.queries].some((query) => query.flight || query.ordered); n++) {
        expect(n).toBeLessThan(100);
        for (const query of world.queries) {
          if (query.flight) world.land(query);
          else if (query.ordered) {
            if (query.entry.rule.phase === "pausing") world.registry.on(query.entry, { type: "timer" });
            if (query.entry.rule.phase === "resting") world.send(query);
          }
          world.check();
        }
      }
      for (const { entry, shown } of world.queries) {
        expect(entry.rule.fresh).toBe(true);
        for (const topic of entry.topics) expect(world.database.last(topic, shown)).toBe(world.database.last(topic));
      }
    }),
    { numRuns: 2000 },
  );
});

test("F90: data older than where its topic is followed from is read again", () => {
  const ordered: Step[] = [];
  const registry = new Registry<string>((_entry, step) => void ordered.push(step));
  const hydrate = (query: string, n: number, topic: string): Entry<string> => {
    const entry = registry.add(query);
    registry.written(entry, rev(n));
    registry.setTopics(entry, [topic]);
    registry.on(entry, { type: "watch" });
    return entry;
  };
  const first = hydrate("first", 20, "messages");
  expect(registry.subscribe("messages")).toBe(rev(20));
  registry.heard(rev(21), false, () => true);
  const older = hydrate("older", 10, "messages");
  expect(older.rule).toMatchObject({ need: rev(20), have: rev(10), fresh: false });
  registry.heard(rev(25), true, () => true);
  expect(older.rule.have).toBe(rev(10));
  expect(first.rule).toMatchObject({ have: rev(25), fresh: true });

  // Also an answer that was on its way when its neighbour's age was taken.
  const other = hydrate("neighbour", 20, "counts");
  const flying = registry.add("flying");
  registry.setTopics(flying, ["counts"]);
  registry.on(flying, { type: "watch" });
  const flight = flying.rule.begin({});
  expect(registry.subscribe("counts")).toBe(rev(20));
  registry.on(flying, { type: "answer", flight, stamp: rev(15) });
  registry.heard(rev(25), false, () => true);
  expect(flying.rule).toMatchObject({ have: rev(15), fresh: false });
  expect(other.rule.fresh).toBe(true);

  // Also when the topic had no query in between, but was not unsubscribed yet.
  registry.remove(first);
  registry.remove(older);
  const back: Entry<string> = hydrate("back", 10, "messages");
  registry.heard(rev(26), true, () => true);
  expect(back.rule).toMatchObject({ have: rev(10), fresh: false });
  registry.remove(back);
  registry.forget();
  const anew = hydrate("anew", 10, "messages");
  const told: Revision | undefined = registry.subscribe("messages");
  expect(told).toBe(rev(10));
  expect(anew.rule.need).toBeUndefined();
});
