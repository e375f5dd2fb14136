import { laterOf, type Revision } from "./revision.js";
import { Rule, type Input, type Inputs, type Step } from "./rule.js";

/** What the registry keeps of one query. */
export interface Entry<Q> {
  readonly query: Q;
  readonly rule: Rule;
  topics: readonly string[];
  /** Those of them that the data held says. */
  answered: ReadonlySet<string>;
  /**
   * It was refused its last answer by `permission_denied` or `TOPIC_SPELLING`, so it
   * has no topics: one that nobody may follow has the stream of all others refused.
   */
  denied: boolean;
  /** Its requests have other answers, and other topics, for another caller. */
  claimed: boolean;
  /** Those under way, of the mutations during which the page wrote the data held. */
  mutations?: Set<object> | undefined;
  /** The data on show, as it was seen last. */
  shown?: unknown;
}

/** What is known of one topic, as long as a stream may follow it for us. */
interface Followed<Q> {
  readonly entries: Set<Entry<Q>>;
  /**
   * The highest revision told of it, and at least where the stream began to
   * tell. Data stamped lower may lack a change that nobody will tell again.
   */
  told: Revision | undefined;
  /** A stream has told all that changed since the data was read. */
  caughtUp: boolean;
}

/**
 * All queries with their topics. Turns what is told of topics into what
 * happens to queries; `act` does what each one's rule answers. No I/O.
 */
export class Registry<Q> {
  readonly #entries = new Map<Q, Entry<Q>>();
  readonly #topics = new Map<string, Followed<Q>>();
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
    const entry: Entry<Q> = { query, rule: new Rule(), topics: [], answered: new Set(), denied: false, claimed: false };
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
    for (const topic of set) {
      const known = this.#topics.get(topic);
      if (known) known.entries.add(entry);
      else this.#topics.set(topic, { entries: new Set([entry]), told: undefined, caughtUp: false });
    }
    this.#owe(entry);
    return true;
  }

  /** Data came from elsewhere; see the rule's `written`. */
  written(entry: Entry<Q>, stamp: Revision | undefined, more?: Pick<Inputs["written"], "patch" | "unfollowed">): void {
    this.on(entry, { type: "written", stamp, ...more });
    this.#owe(entry);
  }

  /** A mutation is over: what the page wrote under it may be data of before, put back. */
  mutated(mutation: object): void {
    for (const entry of this.#entries.values()) {
      const { mutations } = entry;
      if (mutations?.delete(mutation) && mutations.size === 0) this.on(entry, { type: "written", late: true });
    }
  }

  /** All topics of all queries. */
  get topics(): Set<string> {
    return new Set([...this.#topics].flatMap(([topic, { entries }]) => (entries.size > 0 ? topic : [])));
  }

  /** What was known of topics that no query has any more: they are unsubscribed now. */
  forget(): void {
    for (const [topic, { entries }] of this.#topics) if (entries.size === 0) this.#topics.delete(topic);
  }

  on(entry: Entry<Q>, input: Input): void {
    this.#act(entry, entry.rule.on(input));
  }

  /** The same for a query that may be gone. */
  tellQuery(query: Q, input: Input): void {
    const entry = this.#entries.get(query);
    if (entry) this.on(entry, input);
  }

  /** Topics changed (`invalidate`), or are followed from now on (`ready`). */
  tell(type: "invalidate" | "ready", revision: Revision, topics: Iterable<string>): void {
    for (const topic of topics) {
      const known = this.#topics.get(topic);
      if (!known) continue; // a notice on its way when the last query went
      known.told = laterOf(known.told, revision);
      if (type === "ready") known.caughtUp = true;
    }
    for (const entry of this.#of(topics)) this.on(entry, { type, revision });
  }

  /** The server is behind and can't tell: what is on show is read strongly. */
  poll(topics: Iterable<string>): void {
    for (const entry of this.#of(topics)) this.on(entry, { type: "poll" });
  }

  /**
   * How old the data under a topic is: where a stream is asked to begin, to tell
   * all that it lacks. Older data that joins the topic later lacks more (F90).
   */
  subscribe(topic: string): Revision | undefined {
    const known = this.#topics.get(topic);
    let oldest: Revision | undefined;
    for (const { rule } of known?.entries ?? []) {
      if (!rule.held) continue; // its answer is still to come, and is younger
      const have = rule.blind || rule.doubted ? undefined : rule.have;
      if (!have) return undefined;
      oldest = oldest && oldest < have ? oldest : have;
    }
    if (!known || !oldest) return oldest;
    known.told = laterOf(known.told, oldest);
    // An answer on its way may be older still.
    for (const entry of known.entries) if (!entry.rule.held) this.#owe(entry);
    return oldest;
  }

  /**
   * The stream has told all up to `revision` of the topics that are caught up.
   * `retry`: the server is well.
   */
  heard(revision: Revision, retry: boolean, caughtUp: (topic: string) => boolean): void {
    for (const [topic, known] of this.#topics) known.caughtUp ||= caughtUp(topic);
    for (const entry of this.#entries.values()) {
      if (entry.topics.length > 0 && entry.topics.every((topic) => this.#topics.get(topic)?.caughtUp)) {
        this.on(entry, { type: "heard", revision, retry });
      }
    }
  }

  /** Another history: nothing that was told counts any more. */
  reset(revision: Revision): void {
    for (const known of this.#topics.values()) known.told = known.told && revision;
    for (const entry of this.#entries.values()) this.on(entry, { type: "reset", revision });
  }

  /** A query's data has to hold what was told of its topics before it had them. */
  #owe(entry: Entry<Q>): void {
    let need: Revision | undefined;
    for (const topic of entry.topics) {
      const told = this.#topics.get(topic)?.told;
      if (told) need = laterOf(need, told);
    }
    if (need) this.on(entry, { type: "invalidate", revision: need });
  }

  #of(topics: Iterable<string>): Set<Entry<Q>> {
    const hit = new Set<Entry<Q>>();
    for (const topic of topics) for (const entry of this.#topics.get(topic)?.entries ?? []) hit.add(entry);
    return hit;
  }

  #detach(entry: Entry<Q>): void {
    // What is known of a topic stays until it is unsubscribed: a query that has
    // it again before that joins what the stream went on telling.
    for (const topic of entry.topics) this.#topics.get(topic)?.entries.delete(entry);
  }
}
