import { parseRevision, type Frame, type Freshet, type Revision } from "@freshet/query";
import type { Queries } from "@freshet/query/tanstack";
import { parseCause, type Cause } from "./cause.js";
import type { Journey, Picture, Seen } from "./picture.js";

type Fetch = typeof globalThis.fetch;

export interface DevtoolsOptions {
  readonly freshet: Pick<Freshet, "onFrame" | "onStatus" | "status" | "leads">;
  /** Without it there is the stream alone. */
  readonly queries?: Pick<Queries, "report" | "onChange" | "refetches"> | undefined;
  /** What `fetch` sends requests by. Default: the global one. */
  readonly fetch?: Fetch | undefined;
}

interface Read {
  readonly sentAt: number;
  readonly stamp: Revision;
  readonly cause: Cause | undefined;
}

const keptFrames = 60;
const keptJourneys = 24;
const keptCauses = 100;
/** A panel need not render each of a thousand events. */
const settleMs = 80;

const now = (): number => performance.timeOrigin + performance.now();

/** Looks on: frames, requests, what becomes of a notice. It changes nothing. */
export class Devtools {
  readonly #options: DevtoolsOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stops: (() => void)[] = [];
  #frames: readonly Seen[] = [];
  #journeys: readonly Journey[] = [];
  #reads: readonly Read[] = []; // the latest answers, the newest first
  #commits: readonly number[] = []; // the newest first
  #causes: readonly Cause[] = []; // of each topic the latest, the newest first
  #number = 0;
  #counts = { notices: 0, requests: 0, reads: 0, queries: 0, saved: 0 };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #picture: Picture;

  constructor(options: DevtoolsOptions) {
    this.#options = options;
    this.#picture = { frames: [], journeys: [], causes: [], counts: { ...this.#counts, refetches: 0 } };
    const { freshet, queries } = options;
    this.#stops.push(freshet.onFrame((frame) => this.#frame(frame)), freshet.onStatus(() => this.#changed()));
    if (queries) this.#stops.push(queries.onChange(() => this.#arrived()));
  }

  /** The client's. */
  get freshet(): DevtoolsOptions["freshet"] {
    return this.#options.freshet;
  }

  get queries(): DevtoolsOptions["queries"] {
    return this.#options.queries;
  }

  get picture(): Picture {
    return this.#picture;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Sends requests, and notes what their answers say of themselves: for
   * `createConnectTransport({ baseUrl, fetch: devtools.fetch })`, or `freshetFetch`.
   */
  readonly fetch: Fetch = async (input, init) => {
    const sentAt = now();
    this.#counts.requests++;
    const { fetch = (...request) => globalThis.fetch(...request) } = this.#options;
    const response = await fetch(input, init);
    this.#answered(sentAt, response.headers);
    return response;
  };

  /**
   * A row that was written at this time, by the database's clock, is in the data: the
   * stream itself carries no times. Its notice may still be on its way, after an own write.
   */
  committed(at: number): void {
    this.#commits = [at, ...this.#commits].slice(0, keptJourneys);
    this.#date();
  }

  /** Looks on no longer. Idempotent. */
  close(): void {
    for (const stop of this.#stops.splice(0)) stop();
    clearTimeout(this.#timer);
  }

  #answered(sentAt: number, headers: Headers): void {
    const cache = headers.get("freshet-cache"); // on reads only
    const stamp = parseRevision(headers.get("freshet-revision"));
    if (!cache) return;
    this.#counts.reads++;
    if (cache === "miss") this.#counts.queries++;
    else this.#counts.saved++;
    if (stamp) {
      const cause = parseCause(headers.get("freshet-cause"));
      this.#reads = [{ sentAt, stamp, cause }, ...this.#reads].slice(0, keptJourneys);
      if (cause && cause.text !== "began") { // the server has, and knows of no change since
        const others = this.#causes.filter(({ topic, pattern }) => topic !== cause.topic || pattern !== cause.pattern);
        this.#causes = [cause, ...others].slice(0, keptCauses);
      }
      if (cause?.at !== undefined) this.committed(cause.at);
    }
    this.#changed();
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
    this.#changed();
    if (this.#journeys.every(({ freshAt }) => freshAt !== undefined)) return; // a report walks all queries
    const shown = (this.#options.queries?.report() ?? []).filter(({ watched }) => watched);
    this.#journeys = this.#journeys.map((journey) => {
      if (journey.freshAt !== undefined) return journey;
      const touched = shown.filter(({ topics }) => topics.some((topic) => journey.topics.includes(topic)));
      if (touched.some(({ have }) => !have || have < journey.revision)) return journey;
      const read = this.#reads.find(({ stamp }) => stamp >= journey.revision);
      const cause = this.#reads.find(({ cause }) => cause?.revision === journey.revision)?.cause;
      return { ...journey, askedAt: read?.sentAt, cause, freshAt: now() };
    });
  }

  #changed(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const refetches = this.#options.queries?.refetches ?? 0;
      this.#picture = { frames: this.#frames, journeys: this.#journeys, causes: this.#causes, counts: { ...this.#counts, refetches } };
      for (const listener of this.#listeners) listener();
    }, settleMs);
  }
}
