import { StreamSilentError, type StreamError } from "./errors.js";
import type { Revision } from "./revision.js";

export type State =
  /** Nothing is subscribed. */
  | "idle"
  /** The stream is opening or catching up. */
  | "connecting"
  /** Every change will be told. */
  | "live"
  /** The stream was lost and will be opened again. */
  | "waiting"
  /** The server refused for good: see `error`. Other topics may still be live. */
  | "failed"
  /**
   * The server wants another credential. With the `token` option it is tried
   * again with fresh ones; else by `renew()`, `retry()` or `changeAccount()`.
   */
  | "unauthenticated"
  | "closed";

/** What a reader of the data wants to know. */
export type Freshness =
  /** Every change is told when it happens. */
  | "live"
  /** Being subscribed, or changes meanwhile are being told. */
  | "catching up"
  /** The server said that it is behind its database, or has fallen silent. */
  | "stale"
  /** No stream, or of some topics: nobody wants them. Nothing is told, and nothing is asked for. */
  | "offline";

export interface Status {
  readonly state: State;
  /** All in all. Of one subscription: `Subscription.freshness`. */
  readonly freshness: Freshness;
  /** The last id heard: all up to here has been told. */
  readonly revision?: Revision;
  /** How far the server said it is behind the database. */
  readonly lagMs: number;
  /** Why the stream is `waiting`, `failed` or `unauthenticated`. */
  readonly error?: StreamError;
  /** What the `token` source said when it failed. While the last token counts, all goes on. */
  readonly tokenError?: unknown;
}

/** @internal */
export function freshnessOf(
  { state, lagMs, error }: Omit<Status, "freshness">,
  maxLagMs: number,
): Freshness {
  switch (state) {
    case "live":
      return lagMs > maxLagMs ? "stale" : "live";
    case "connecting":
    case "waiting":
      // A dead peer that no one told us of: for so long, too, nothing was told.
      if (error instanceof StreamSilentError) return "stale";
      return error || state === "waiting" ? "offline" : "catching up";
    case "idle":
    case "failed":
    case "unauthenticated":
    case "closed":
      return "offline";
  }
}
