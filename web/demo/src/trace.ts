import { parseRevision, type Frame, type Freshet, type Revision } from "@freshet/query";
import type { Queries } from "@freshet/query/tanstack";

type Fetch = typeof globalThis.fetch;

/** A frame as it came. */
export interface Seen {
  readonly number: number;
  readonly at: number;
  readonly frame: Frame;
}

/** One notice, from the commit it tells of to the answer that contains it. */
export interface Journey {
  readonly number: number;
  readonly revision: Revision;
  readonly topics: readonly string[];
  /** When the notice came, in milliseconds of the epoch, with fractions. */
  readonly toldAt: number;
  /** When the row was written, by the database's clock; unknown of a delete. */
  readonly committedAt?: number;
  /** When the request left whose answer reached the revision: before the notice, after an own write. */
  readonly askedAt?: number;
  /** When all that is on show had reached it. */
  readonly freshAt?: number;
}

export interface Counts {
  readonly notices: number;
  readonly reads: number;
  readonly refetches: number;
  /** Reads that ran a query, and reads that did without, as `Freshet-Cache` says. */
  readonly queries: number;
  readonly saved: number;
}

/** What the inspector shows; another object whenever something changed. */
export interface Picture {
  readonly frames: readonly Seen[];
  readonly journeys: readonly Journey[];
  readonly counts: Counts;
}

interface Read {
  readonly sentAt: number;
  readonly stamp: Revision;
}

const keptFrames = 60;
const keptJourneys = 24;
/** The inspector need not render each of a thousand events. */
const settleMs = 80;

export const now = (): number => performance.timeOrigin + performance.now();

/** Looks on: frames, requests, what becomes of a notice. It changes nothing. */
export class Trace {
  readonly #listeners = new Set<() => void>();
  readonly #inner: Fetch;
  #queries: Queries | undefined;
  #frames: readonly Seen[] = [];
  #journeys: readonly Journey[] = [];
  #reads: readonly Read[] = []; // the latest answers, the newest first
  #commits: readonly number[] = []; // the newest first
  #number = 0;
  #counts = { notices: 0, reads: 0, queries: 0, saved: 0 };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #picture: Picture = { frames: [], journeys: [], counts: { ...this.#counts, refetches: 0 } };

  constructor(inner: Fetch) {
    this.#inner = inner;
  }

  get picture(): Picture {
    return this.#picture;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  follow(freshet: Freshet, queries: Queries): void {
    this.#queries = queries;
    freshet.onFrame((frame) => this.#frame(frame));
    queries.onChange(() => this.#arrived());
  }

  readonly fetch: Fetch = async (input, init) => {
    const sentAt = now();
    const response = await this.#inner(input, init);
    const cache = response.headers.get("freshet-cache"); // on reads only
    const stamp = parseRevision(response.headers.get("freshet-revision"));
    if (cache) {
      this.#counts.reads++;
      if (cache === "miss") this.#counts.queries++;
      else this.#counts.saved++;
      if (stamp) this.#reads = [{ sentAt, stamp }, ...this.#reads].slice(0, keptJourneys);
      this.#changed();
    }
    return response;
  };

  /** A row that was written then is in the data. Its notice may still be on its way, after an own write. */
  committed(at: number): void {
    this.#commits = [at, ...this.#commits].slice(0, keptJourneys);
    this.#date();
  }

  /** A notice tells of the commits since the one before: the last of them counts. */
  #date(): void {
    this.#journeys = this.#journeys.map((journey, n) => {
      const before = this.#journeys[n + 1]?.toldAt ?? 0;
      const committedAt = this.#commits.find((at) => at <= journey.toldAt && at > before);
      return committedAt === journey.committedAt ? journey : { ...journey, committedAt };
    });
    this.#changed();
  }

  #frame(frame: Frame): void {
    const number = ++this.#number;
    this.#frames = [{ number, at: Date.now(), frame }, ...this.#frames].slice(0, keptFrames);
    if (frame.type === "invalidate") {
      this.#counts.notices++;
      const { revision, topics } = frame;
      this.#journeys = [{ number, revision, topics, toldAt: now() }, ...this.#journeys].slice(0, keptJourneys);
      this.#date();
      this.#arrived();
    }
    this.#changed();
  }

  /** Ends the journeys of which all that is on show has heard. */
  #arrived(): void {
    const shown = (this.#queries?.report() ?? []).filter(({ watched }) => watched);
    this.#journeys = this.#journeys.map((journey) => {
      if (journey.freshAt !== undefined) return journey;
      const touched = shown.filter(({ topics }) => topics.some((topic) => journey.topics.includes(topic)));
      if (touched.some(({ have }) => !have || have < journey.revision)) return journey;
      const askedAt = this.#reads.find(({ stamp }) => stamp >= journey.revision)?.sentAt;
      return { ...journey, askedAt, freshAt: now() };
    });
    this.#changed();
  }

  #changed(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const refetches = this.#queries?.refetches ?? 0;
      this.#picture = { frames: this.#frames, journeys: this.#journeys, counts: { ...this.#counts, refetches } };
      for (const listener of this.#listeners) listener();
    }, settleMs);
  }
}
