import type { Invalidation } from "./ledger.js";
import type { Logger } from "./logger.js";
import type { Revision } from "./revision.js";
import type { TabsOptions } from "./tabs-options.js";
import type { TokenSource } from "./tokens.js";

export interface FreshetOptions {
  /**
   * The stream's address, or those of several nodes of one database: the client begins
   * with any, and goes to the next at once when one fails. Behind a balancer one is
   * enough. Default: `/events` on the page's origin.
   */
  readonly url?: string | readonly string[] | undefined;
  /**
   * Where bearer tokens come from, for the stream and, by `freshetTransport` and
   * its like, for requests. Renewed before they expire, the stream with them.
   * Without it, the browser's cookies say who calls.
   */
  readonly token?: TokenSource | undefined;
  /** Other headers for each attempt at the stream. */
  readonly headers?: (() => HeadersInit | Promise<HeadersInit>) | undefined;
  /** The least time between two notices. Default: the server's (100 ms). */
  readonly throttleMs?: number | undefined;
  /** The first wait before reconnecting; `retry:` replaces it. Default 1 s. */
  readonly retryMs?: number | undefined;
  /** The longest wait before reconnecting. Default 30 s. */
  readonly maxRetryMs?: number | undefined;
  /** After a reset, subscribers are told at random within so long. Default 1 s. */
  readonly resetSpreadMs?: number | undefined;
  /** From this lag on the data counts as stale. Default 5 s, as the server's `--max-lag`. */
  readonly maxLagMs?: number | undefined;
  /** While it does, subscribers are told to poll after so long, up to half more. Default 10 s. */
  readonly pollMs?: number | undefined;
  /**
   * Whether all tabs of the browser share one stream. Default: where it can be
   * done; false: this client has its own.
   */
  readonly tabs?: boolean | TabsOptions | undefined;
  /** Default: nothing is logged, but for warnings of reads without topics, on the console. */
  readonly logger?: Logger | undefined;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

export interface SubscribeOptions {
  readonly topics: Iterable<string>;
  /**
   * What the data held under this topic is stamped with. Only what changed
   * after that is told then; without it, each topic is told once as `ready`.
   */
  readonly since?: ((topic: string) => Revision | undefined) | undefined;
  /** Refetch what depends on these topics. Called for every cause. */
  readonly onInvalidate: (invalidation: Invalidation) => void;
  /** Called before `onInvalidate` when the history was replaced. */
  readonly onReset?: ((invalidation: Invalidation) => void) | undefined;
}
