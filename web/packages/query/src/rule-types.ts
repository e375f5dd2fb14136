import type { Revision } from "./revision.js";

/**
 * What a query is doing. SPEC.md has the states, the events, the invariants,
 * and every path that could loop, with its bound.
 */
export type Phase =
  /** No fetch and no timer: nothing is owed, or nobody watches. */
  | "resting"
  /** A fetch is on its way; its end decides. */
  | "flying"
  /** Something is owed; a timer runs. */
  | "pausing";

/** One request of a fetch. */
export interface Flight {
  /** What was asked for; undefined: a strong read. */
  readonly atLeast: Revision | undefined;
  /** What was needed when it was sent: an answer below is the server's fault. */
  readonly owed: Revision | undefined;
  /** It adds a page to what is held, and replaces nothing. */
  readonly partial: boolean;
  readonly sent: number;
}

/** What happened. */
export interface Inputs {
  /** The query's topics changed at `revision`. */
  invalidate: { readonly revision: Revision; readonly spreadMs?: number };
  /** Its topics are followed from `revision` on, and nothing is known of before. */
  ready: { readonly revision: Revision };
  /** All up to `revision` has been told. `retry`: a heartbeat, so the server is well. */
  heard: { readonly revision: Revision; readonly retry?: boolean };
  /** Another history begins at `revision`. */
  reset: { readonly revision: Revision };
  /** A request is sent now. `heard`: the last id of a live stream. */
  send: { readonly heard?: Revision; readonly partial?: boolean };
  /** The fetch ended with this answer. No stamp: of unknown age. */
  answer: { readonly flight: Flight; readonly stamp?: Revision };
  /** The fetch ended with an answer that `judge` did not let through. */
  dropped: object;
  /** The fetch ended without an answer. `waitMs`: as the server asked. */
  failure: { readonly waitMs?: number; readonly final?: boolean };
  /** The server doesn't know `atLeast`, which was asked for. It is asked strongly. */
  unknown: { readonly atLeast: Revision };
  /** The fetch was called off. */
  cancelled: object;
  /** The pause is over. */
  timer: object;
  /** Somebody shows the query now. */
  watch: object;
  /** Nobody does any more. */
  unwatch: object;
  /**
   * Data came from elsewhere: the page itself, a cache, the server's rendering.
   * `patch`: the page changed what it had. `late`: it is told some time after it
   * came, so what has been asked for since may replace it. `unfollowed`: only an
   * answer says what tells of its changes, so it is to be read.
   */
  written: { readonly stamp?: Revision; readonly patch?: boolean; readonly late?: boolean; readonly unfollowed?: boolean };
  /** The server is behind: ask strongly now and then. */
  poll: object;
  /** Somebody else may be calling from now on: what is held, or on its way, is no answer to them. */
  another: object;
}

export type Kind = keyof Inputs;
export type Input = { [K in Kind]: { readonly type: K } & Inputs[K] }[Kind];

/** What to do now; at most one of them. */
export interface Step {
  /** Begin a fetch. */
  readonly fetch?: true;
  /** Give `timer` after `leastMs` and a random time up to `spreadMs`. */
  readonly pause?: { readonly leastMs: number; readonly spreadMs: number };
  /** Nobody watches: whoever looks next must fetch. */
  readonly mark?: true;
}

/** What to do with an answer before anyone sees it. */
export type Verdict =
  | "keep"
  /** A notice overtook it: ask again, within the same fetch. */
  | "again"
  /** Older than what is held, or of another history: nobody may see it. */
  | "drop";
