import { Era } from "./era.js";
import type { Span } from "./history.js";
import { isBefore, laterOf, type Revision } from "./revision.js";

/** Why a subscriber is told to refetch. */
export type Cause =
  /** Topics changed. */
  | "invalidate"
  /** The subscription has just begun: what was read before may lack a change. */
  | "ready"
  /** Another history (a restored or crashed database): all may be wrong. */
  | "reset"
  /** The server is behind its database and can't tell: read strongly, now and then. */
  | "poll"
  /** A grant was withdrawn: the topics may not be the caller's to read any more. */
  | "denied";

export interface Invalidation {
  readonly cause: Cause;
  /** The subscriber's topics that are meant, at least one. */
  readonly topics: readonly string[];
  /** A read at-least this revision contains all that is told here. */
  readonly revision: Revision;
}

export interface Subscriber {
  readonly topics: ReadonlySet<string>;
  /** What the data under this topic was stamped with when it was subscribed. */
  since?(topic: string): Revision | undefined;
  /** Wait a random time up to `spreadMs` before acting. */
  tell(invalidation: Invalidation, spreadMs: number): void;
}

/** What one subscriber knows of one topic. */
interface Entry {
  /** It was told of all up to here. */
  told: Revision;
  /**
   * `brought`: data of this age, that a stream shall catch up. `told`: by a
   * notice. `joined`: it follows the stream: what that has told, it was told.
   */
  by: "brought" | "told" | "joined";
}

/**
 * Who has been told what. No I/O and no time: the part that decides whether a
 * notice is lost (G2), apart from the part that moves bytes.
 *
 * For each subscriber and each of its topics it keeps the revision up to which
 * that subscriber has been told of that topic. A notice at or below it is old news
 * to this subscriber, from whichever stream it comes, and is not passed on: two
 * streams overlap while the set of topics changes, and a stream that reconnects
 * repeats. A notice above it is passed on, and raises it.
 *
 * The lowest of these positions is where the next stream of a topic has to begin
 * (`wants`), so that whoever knows least misses nothing. There are three ways to
 * have a position: data that was read elsewhere brings its own age along; a notice
 * was passed on; or the subscriber joined the stream, and moves on with everything
 * that the stream tells, without an entry being written for each frame.
 */
export class Ledger {
  readonly #entries = new Map<Subscriber, Map<string, Entry>>();
  #latest = new Map<string, Revision>();
  readonly #era = new Era();
  readonly #onReset: (revision: Revision) => void;
  /** The topics that the stream follows, all of them told up to `id`. */
  #live: { readonly topics: ReadonlySet<string>; id: Revision } | undefined;

  /** `onReset`: another history has begun, of which nobody has been told yet. */
  constructor(onReset: (revision: Revision) => void) {
    this.#onReset = onReset;
  }

  /** Which history is the current one. */
  get era(): Omit<Era, "advance" | "begin"> {
    return this.#era;
  }

  /** The highest revision heard of: on the stream, or in a response. */
  get heard(): Revision | undefined {
    return this.#era.at;
  }

  /** All topics of all subscribers. */
  topics(): Set<string> {
    const all = new Set<string>();
    for (const subscriber of this.#entries.keys()) for (const t of subscriber.topics) all.add(t);
    return all;
  }

  /**
   * All topics, each with the least that one of its subscribers was told. Who
   * was told nothing needs no catch-up: it is told `ready`.
   */
  wants(): Map<string, Revision | undefined> {
    const wants = new Map<string, Revision | undefined>();
    for (const [subscriber, entries] of this.#entries) {
      for (const topic of subscriber.topics) {
        const entry = entries.get(topic);
        const position = entry && this.#position(topic, entry);
        const least = wants.get(topic);
        wants.set(topic, position && least ? (position < least ? position : least) : (position ?? least));
      }
    }
    return wants;
  }

  /** Whether the subscriber has been told all that changed since its data was read. */
  caughtUp(subscriber: Subscriber, topic: string): boolean {
    return this.#entries.get(subscriber)?.get(topic)?.by === "joined";
  }

  /** Whether each of these topics has a subscriber. */
  wantsAll(topics: Iterable<string>): boolean {
    const subscribers = [...this.#entries.keys()];
    for (const topic of topics) if (!subscribers.some((subscriber) => subscriber.topics.has(topic))) return false;
    return true;
  }

  /** Whether the stream follows all of these topics, or did until it was lost. */
  follows(topics: Iterable<string>): boolean {
    for (const topic of topics) if (!this.#live?.topics.has(topic)) return false;
    return true;
  }

  /** Whether it follows any of them. */
  followsAny(topics: Iterable<string>): boolean {
    for (const topic of topics) if (this.#live?.topics.has(topic)) return true;
    return false;
  }

  add(subscriber: Subscriber): void {
    this.#entries.set(subscriber, new Map());
    this.changed(subscriber);
  }

  remove(subscriber: Subscriber): void {
    this.#entries.delete(subscriber);
    this.#forget();
  }

  /** The subscriber's topics were replaced; what it was told of the others stays. */
  changed(subscriber: Subscriber): void {
    const entries = this.#entries.get(subscriber);
    if (!entries) return;
    for (const topic of entries.keys()) if (!subscriber.topics.has(topic)) entries.delete(topic);
    for (const topic of subscriber.topics) {
      if (entries.has(topic)) continue;
      const told = subscriber.since?.(topic);
      if (told) entries.set(topic, { told, by: "brought" });
    }
    this.#forget();
  }

  /** The highest revision told for one of these topics. */
  needOf(topics: Iterable<string>): Revision | undefined {
    let need: Revision | undefined;
    for (const topic of topics) {
      const latest = this.#latest.get(topic);
      if (latest) need = laterOf(need, latest);
    }
    return need;
  }

  invalidate(revision: Revision, topics: Iterable<string>, spreadMs = 0): void {
    this.#tell("invalidate", revision, new Set(topics), spreadMs);
  }

  /**
   * A stream of these topics is live, told up to `id`. Who wasn't told of a
   * topic before is told now; who brought data of an age is told what changed
   * since, unless the stream began later: then one that begins earlier follows.
   */
  live(id: Revision, spans: ReadonlyMap<string, Span>): void {
    if (this.#era.isEarlier(id)) return; // that stream is about to be told so
    this.advance(id);
    for (const [subscriber, entries] of this.#entries) {
      const fresh: string[] = [];
      const missed: string[] = [];
      let revision: Revision | undefined;
      for (const topic of subscriber.topics) {
        const span = spans.get(topic);
        if (!span) continue;
        const entry = entries.get(topic);
        const position = entry && this.#position(topic, entry);
        if (!entry || !position || position < span.from) {
          if (entry?.by === "brought") continue;
          entries.set(topic, { told: id, by: "joined" });
          fresh.push(topic);
          continue;
        }
        entry.by = "joined";
        if (!isBefore(position, span.latest)) continue;
        entry.told = span.latest!;
        revision = laterOf(revision, entry.told);
        missed.push(topic);
      }
      for (const topic of fresh) this.#mark(topic, id);
      for (const topic of missed) this.#mark(topic, spans.get(topic)!.latest!);
      if (fresh.length > 0) subscriber.tell({ cause: "ready", topics: fresh, revision: id }, 0);
      if (revision) subscriber.tell({ cause: "invalidate", topics: missed, revision }, 0);
    }
    this.#live = { topics: new Set(spans.keys()), id };
  }

  /** Every change of the live topics up to `id` has been told. */
  position(id: Revision): void {
    this.advance(id);
    if (this.#live) this.#live.id = laterOf(this.#live.id, id);
  }

  /** What was heard before counts no more, even if it was higher. */
  reset(revision: Revision, spreadMs: number): void {
    this.#era.begin(revision);
    this.#latest = new Map();
    if (this.#live) this.#live.id = revision;
    for (const entries of this.#entries.values()) entries.clear();
    this.#onReset(revision);
    this.#tell("reset", revision, this.topics(), spreadMs);
  }

  /** Another account reads from now on: it was told nothing. */
  clear(): void {
    for (const entries of this.#entries.values()) entries.clear();
    this.#latest = new Map();
    this.#live = undefined;
  }

  /** Asks everyone to read, without having anything to tell. */
  ask(cause: "poll" | "denied"): void {
    const revision = this.heard;
    if (!revision) return;
    for (const subscriber of this.#entries.keys()) {
      const topics = [...subscriber.topics];
      if (topics.length > 0) subscriber.tell({ cause, topics, revision }, 0);
    }
  }

  /** Every change up to `revision` has been told. */
  advance(revision: Revision): void {
    this.#era.advance(revision);
  }

  /** Tells again what was told of these topics: an answer missed it. */
  retell(topics: Iterable<string>): void {
    const again = new Set(topics);
    for (const subscriber of this.#entries.keys()) {
      const hit = [...subscriber.topics].filter((topic) => again.has(topic));
      const revision = this.needOf(hit);
      if (revision) subscriber.tell({ cause: "invalidate", topics: hit, revision }, 0);
    }
  }

  #tell(cause: Cause, revision: Revision, topics: ReadonlySet<string>, spreadMs: number): void {
    this.advance(revision);
    for (const [subscriber, entries] of this.#entries) {
      const hit: string[] = [];
      for (const topic of subscriber.topics) {
        if (!topics.has(topic)) continue;
        this.#mark(topic, revision);
        const entry = entries.get(topic);
        if (!isBefore(entry?.told, revision)) continue;
        entries.set(topic, { told: revision, by: entry?.by === "joined" ? "joined" : "told" });
        hit.push(topic);
      }
      if (hit.length > 0) subscriber.tell({ cause, topics: hit, revision }, spreadMs);
    }
  }

  #position(topic: string, { told, by }: Entry): Revision {
    return by === "joined" && this.#live?.topics.has(topic) ? laterOf(this.#live.id, told) : told;
  }

  #mark(topic: string, revision: Revision): void {
    this.#latest.set(topic, laterOf(this.#latest.get(topic), revision));
  }

  /** Memory follows the topics that are subscribed, not those that ever were. */
  #forget(): void {
    const topics = this.topics();
    for (const topic of this.#latest.keys()) if (!topics.has(topic)) this.#latest.delete(topic);
  }
}
