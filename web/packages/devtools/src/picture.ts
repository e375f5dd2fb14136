import type { Frame, Revision } from "@freshet/query";
import type { Cause } from "./cause.js";

/** A frame as it came. */
export interface Seen {
  readonly number: number;
  /** `Date.now()`. */
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
  /** When the row was written, by the database's clock; unknown of most. */
  readonly committedAt?: number | undefined;
  /** What the server said made the page read again, if it explains itself. */
  readonly cause?: Cause | undefined;
  /** When the request left whose answer reached the revision: before the notice, after an own write. */
  readonly askedAt?: number | undefined;
  /** When all that is on show had reached it. */
  readonly freshAt?: number | undefined;
}

export interface Counts {
  readonly notices: number;
  readonly refetches: number;
  /** Requests that `fetch` has sent. */
  readonly requests: number;
  /** Answers to reads that `fetch` has seen; without it the next two say nothing. */
  readonly reads: number;
  /** Reads that ran a query, and reads that did without, as `Freshet-Cache` says. */
  readonly queries: number;
  readonly saved: number;
}

/** What a panel shows; another object whenever something changed. */
export interface Picture {
  readonly frames: readonly Seen[];
  readonly journeys: readonly Journey[];
  /** What has changed, as answers of a server that explains itself say: of each topic the latest, the newest first. */
  readonly causes: readonly Cause[];
  readonly counts: Counts;
}
