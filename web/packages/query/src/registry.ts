import { isEarlierEpoch, laterOf, type Revision } from "./revision.js";
import { Rule, type Input, type Step } from "./rule.js";

/** What the registry keeps of one query. */
export interface Entry<Q> {
  readonly query: Q;
  readonly rule: Rule;
  topics: readonly string[];
}

/**
 * All queries with their topics. Turns what is told of topics into what
 * happens to queries; `act` does what each one's rule answers. No I/O.
 */
export class Registry<Q> {
  readonly #entries = new Map<Q, Entry<Q>>();
  readonly #byTopic = new Map<string, Set<Entry<Q>>>();
  /** The highest revision told of each topic, for queries that come later. */
  readonly #told = new Map<string, Revision>();
  /** Topics of which a stream has told all that changed since the data was read. */
  readonly #followed = new Set<string>();
  readonly #act: (entry: Entry<Q>, step: Step) => void;

  constructor(act: (entry: Entry<Q>, step: Step) => void) {
    this.#act = act;
  }

  get entries(): Iterable<Entry<Q>> {
    return this.#entries.values();
  }

  get(query: Q): Entry<Q> | undefined {
    return this.#entries.get(query);
  }

  add(query: Q): Entry<Q> {
    const entry: Entry<Q> = { query, rule: new Rule(), topics: [] };
    this.#entries.set(query, entry);
    return entry;
  }

  remove(entry: Entry<Q>): void {
    this.#detach(entry);
    this.#entries.delete(entry.query);
  }

  /** Returns whether they are others than before. */
  setTopics(entry: Entry<Q>, topics: readonly string[]): boolean {
    const set = new Set(topics);
    if (set.size === entry.topics.length && entry.topics.every((topic) => set.has(topic))) return false;
    this.#detach(entry);
    entry.topics = [...set];
    let need: Revision | undefined;
    for (const topic of set) {
      const told = this.#told.get(topic);
      if (told) need = laterOf(need, told);
      const entries = this.#byTopic.get(topic);
      if (entries) entries.add(entry);
      else this.#byTopic.set(topic, new Set([entry]));
    }
    if (need) this.on(entry, { type: "invalidate", revision: need });
    return true;
  }

  /** All topics of all queries. */
  get topics(): Set<string> {
    return new Set(this.#byTopic.keys());
  }

  on(entry: Entry<Q>, input: Input): void {
    this.#act(entry, entry.rule.on(input));
  }

  /** Topics changed (`invalidate`), or are followed from now on (`ready`). */
  tell(type: "invalidate" | "ready", revision: Revision, topics: Iterable<string>): void {
    for (const topic of topics) {
      if (!this.#byTopic.has(topic)) continue; // a notice on its way when the last query went
      this.#told.set(topic, laterOf(this.#told.get(topic), revision));
      if (type === "ready") this.#followed.add(topic);
    }
    for (const entry of this.#of(topics)) this.on(entry, { type, revision });
  }

  /** The server is behind and can't tell: what is on show is read strongly. */
  poll(topics: Iterable<string>): void {
    for (const entry of this.#of(topics)) this.on(entry, { type: "poll" });
  }

  /** How old the data under a topic is: where a stream has to begin to tell all that it lacks. */
  since(topic: string): Revision | undefined {
    let oldest: Revision | undefined;
    for (const { rule } of this.#byTopic.get(topic) ?? []) {
      if (!rule.held) continue; // its answer is still to come, and is younger
      const have = rule.blind ? undefined : rule.have;
      if (!have) return undefined;
      oldest = oldest && oldest < have ? oldest : have;
    }
    return oldest;
  }

  /**
   * The stream has told all up to `revision` of the topics that are caught up.
   * `retry`: the server is well.
   */
  heard(revision: Revision, retry: boolean, caughtUp: (topic: string) => boolean): void {
    for (const topic of this.#byTopic.keys()) {
      if (!this.#followed.has(topic) && caughtUp(topic)) this.#followed.add(topic);
    }
    for (const entry of this.#entries.values()) {
      if (entry.topics.length > 0 && entry.topics.every((topic) => this.#followed.has(topic))) {
        this.on(entry, { type: "heard", revision, retry });
      }
    }
  }

  /** Another history: nothing that was told counts any more. */
  reset(revision: Revision): void {
    for (const [topic, told] of this.#told) {
      if (!isEarlierEpoch(revision, told)) this.#told.set(topic, revision);
    }
    for (const entry of this.#entries.values()) this.on(entry, { type: "reset", revision });
  }

  #of(topics: Iterable<string>): Set<Entry<Q>> {
    const hit = new Set<Entry<Q>>();
    for (const topic of topics) for (const entry of this.#byTopic.get(topic) ?? []) hit.add(entry);
    return hit;
  }

  #detach(entry: Entry<Q>): void {
    for (const topic of entry.topics) {
      const entries = this.#byTopic.get(topic);
      entries?.delete(entry);
      if (entries?.size === 0) {
        this.#byTopic.delete(topic);
        this.#told.delete(topic);
        this.#followed.delete(topic); // what comes next of it begins with ready
      }
    }
  }
}
