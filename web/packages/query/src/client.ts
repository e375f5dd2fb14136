import { StreamProtocolError } from "./errors.js";
import type { Feed, FeedEvents, FeedState } from "./feed.js";
import type { Frame } from "./frame.js";
import type { Span } from "./history.js";
import { Ledger, type Invalidation } from "./ledger.js";
import { silent, type Logger } from "./logger.js";
import type { Revision } from "./revision.js";
import { freshnessOf, type Freshness, type State, type Status } from "./status.js";
import { Stream, type StreamOptions } from "./stream.js";
import { guarded, Subscription } from "./subscription.js";
import { LaterTabs } from "./tabs-later.js";
import { canShare, type TabsOptions } from "./tabs-options.js";

export type { Freshness, State, Status } from "./status.js";

export interface FreshetOptions {
  /** The stream's address. Default: `/events` on the page's origin. */
  readonly url?: string | undefined;
  /**
   * The bearer token for the stream, asked for on each attempt. After a 401 it
   * is asked for once more with `refresh`: get a new one then, not a kept one.
   */
  readonly token?: ((refresh: boolean) => string | undefined | Promise<string | undefined>) | undefined;
  /** Other headers for each attempt. */
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
  /** Default: nothing is logged. */
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

/**
 * The stream of one server, shared by all that subscribe. One connection
 * carries the union of all topics; when that grows, a new one is opened from
 * the last id before the old one closes, so that no notice falls between.
 *
 * Upholds the client's part of G2: every change of a subscribed topic reaches
 * `onInvalidate`, through reconnects and changes of topics; and of G9: `status`
 * says when that doesn't hold for now. It does not promise one call per change:
 * notices are merged.
 */
export class Freshet {
  readonly #options: FreshetOptions;
  readonly #log: Logger;
  readonly #ledger = new Ledger((revision) => {
    for (const listener of this.#resetListeners) guarded(() => listener(revision));
  });
  readonly #statusListeners = new Set<() => void>();
  readonly #frameListeners = new Set<(frame: Frame) => void>();
  readonly #resetListeners = new Set<(revision: Revision) => void>();
  readonly #stopListening: () => void;
  readonly #feed: Feed;
  #feedState: FeedState = { state: "idle", streaming: false, lagMs: 0 };
  #status: Status = { state: "idle", freshness: "offline", lagMs: 0 };
  #polling: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: FreshetOptions = {}) {
    this.#options = options;
    this.#log = options.logger ?? silent;
    const stream: StreamOptions = {
      url: options.url ?? "/events",
      token: options.token,
      headers: options.headers,
      throttleMs: options.throttleMs,
      retryMs: options.retryMs ?? 1000,
      maxRetryMs: options.maxRetryMs ?? 30_000,
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
      log: this.#log,
    };
    const events = this.#events();
    const openStream = (o: StreamOptions, e: FeedEvents) => new Stream(o, e);
    const tabs = typeof options.tabs === "object" ? options.tabs : {};
    this.#feed =
      options.tabs !== false && canShare(tabs)
        ? new LaterTabs(tabs, stream, events, openStream)
        : openStream(stream, events);
    this.#stopListening = onWake(() => this.#feed.wake());
  }

  /** Begins a subscription. `close` it to end it. */
  subscribe(options: SubscribeOptions): Subscription {
    const subscription = new Subscription(options, {
      changed: () => {
        this.#ledger.changed(subscription);
        this.#feed.changed();
      },
      closed: () => {
        this.#ledger.remove(subscription);
        this.#feed.changed();
      },
      freshness: (topics) => this.freshnessOf(topics),
      caughtUp: (topic) => this.#ledger.caughtUp(subscription, topic),
    });
    this.#ledger.add(subscription);
    this.#feed.changed();
    return subscription;
  }

  /** Whether this tab holds the stream; of several tabs that share it, one does. */
  get leads(): boolean {
    return this.#feed instanceof LaterTabs ? this.#feed.leads : !this.#closed;
  }

  /** An immutable snapshot; another object whenever something changed. */
  get status(): Status {
    return this.#status;
  }

  /** How well these topics are followed; none at all are as well as the stream. */
  freshnessOf(topics: Iterable<string>): Freshness {
    const { freshness, lagMs, state } = this.#status;
    if (state === "closed") return "offline";
    if (!this.#feedState.streaming) return freshness;
    if (this.#ledger.follows(topics)) return freshnessOf({ state: "live", lagMs }, this.#maxLagMs);
    return this.#feedState.error ? "offline" : "catching up";
  }

  onStatus(listener: () => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  /** Every frame as it comes, for logs and devtools. */
  onFrame(listener: (frame: Frame) => void): () => void {
    this.#frameListeners.add(listener);
    return () => this.#frameListeners.delete(listener);
  }

  /**
   * Another history begins: the database was restored, or has crashed. Called at
   * once, be it the stream that says so or an answer's stamp; subscribers are
   * told to read again after a random part of `resetSpreadMs`.
   */
  onReset(listener: (revision: Revision) => void): () => void {
    this.#resetListeners.add(listener);
    return () => this.#resetListeners.delete(listener);
  }

  /** Connects again now: after a new login, say. */
  retry(): void {
    this.#feed.retry();
  }

  /**
   * The credential that the browser sends by itself, a cookie, is another one now:
   * opens a stream with it, from the last id, and lets the old one go once the new
   * one is live. Nothing is refetched for it. Of several tabs, that does it which
   * holds the stream; call it in each.
   */
  renew(): void {
    this.#feed.renew();
  }

  /** Ends the stream and all subscriptions for good. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopListening();
    this.#feed.close();
    this.#feedState = { state: "idle", streaming: false, lagMs: 0 };
    this.#update();
  }

  // What a transport needs; see ./connect for the one for Connect.

  /**
   * What a read that is sent now must reach to hold all that has been told.
   * Undefined without a live stream, and while it is behind: read strongly
   * (no at-least) then.
   */
  get atLeast(): Revision | undefined {
    const { streaming, lagMs } = this.#feedState;
    return streaming && lagMs <= this.#maxLagMs ? this.#ledger.heard : undefined;
  }

  /** The highest revision told for these topics. */
  needOf(topics: Iterable<string>): Revision | undefined {
    return this.#ledger.needOf(topics);
  }

  /** Whether a stamp is of the current history, as far as is known. */
  isCurrent(stamp: Revision): boolean {
    return this.#ledger.era.holds(stamp);
  }

  /** A response carried this stamp; a later epoch resets everything. */
  observe(stamp: Revision): void {
    if (this.#ledger.era.leads(stamp)) this.#ledger.reset(stamp, this.#resetSpreadMs);
  }

  /** A mutation was answered with this stamp, and changed these topics. */
  wrote(stamp: Revision, topics: Iterable<string>): void {
    this.observe(stamp);
    if (this.isCurrent(stamp)) this.#ledger.invalidate(stamp, topics);
  }

  /** An answer was delivered that lacks what had been told: tell it again. */
  retell(topics: Iterable<string>): void {
    if (!this.#closed) this.#ledger.retell(topics);
  }

  get #resetSpreadMs(): number {
    return this.#options.resetSpreadMs ?? 1000;
  }

  get #maxLagMs(): number {
    return this.#options.maxLagMs ?? 5000;
  }

  #events(): FeedEvents {
    return {
      wants: () => this.#ledger.wants(),
      apply: (frame) => this.#apply(frame),
      live: (id: Revision, spans: ReadonlyMap<string, Span>) => {
        this.#ledger.live(id, spans);
        this.#update({ revision: id });
      },
      position: (id) => {
        this.#ledger.position(id);
        this.#update({ revision: id });
      },
      state: (state) => {
        this.#feedState = state;
        this.#update();
      },
      seen: (frame) => {
        for (const listener of this.#frameListeners) guarded(() => listener(frame));
      },
    };
  }

  #apply(frame: Frame): void {
    const { type, revision } = frame;
    const { era } = this.#ledger;
    if (type !== "reset" && era.isEarlier(revision)) {
      // An answer came from a later one. The next stream begins there, and the
      // server says which of the two is over: by a reset, which it has proved.
      throw new StreamProtocolError(`${type}: the revision is of an earlier epoch`);
    }
    if (type === "reset" || era.isLater(revision)) {
      this.#log("warn", "the history was replaced: everything is read again", { revision });
      this.#ledger.reset(revision, this.#resetSpreadMs);
    }
    if (type === "invalidate") this.#ledger.invalidate(revision, frame.topics, frame.spreadMs);
    if (type === "frontier") this.#ledger.advance(revision);
  }

  /** Works the status out anew, and tells who listens when it is another. */
  #update(change: { revision?: Revision } = {}): void {
    const { lagMs, error } = this.#feedState;
    const old = this.#status;
    const next = {
      state: this.#state(),
      revision: change.revision ?? old.revision,
      lagMs,
      error,
    };
    const freshness = freshnessOf(next, this.#maxLagMs);
    this.#poll(this.#feedState.streaming && lagMs > this.#maxLagMs);
    if (
      old.state === next.state &&
      old.freshness === freshness &&
      old.revision === next.revision &&
      old.lagMs === next.lagMs &&
      old.error === next.error
    ) {
      return;
    }
    if (old.freshness !== freshness) this.#log("info", `freshness: ${freshness}`, { lagMs, error });
    this.#status = { ...next, freshness };
    for (const listener of this.#statusListeners) guarded(listener);
  }

  /** A shared stream may be live for other tabs' topics, or for none of them. */
  #state(): State {
    const { state } = this.#feedState;
    if (this.#closed) return "closed";
    const topics = this.#ledger.topics();
    if (topics.size === 0) return "idle";
    if (state === "idle") return "connecting";
    return state === "live" && !this.#ledger.followsAny(topics) ? "connecting" : state;
  }

  /**
   * Heartbeats of a server that is behind: the stream is sound, so it stays,
   * but what it will tell comes late. The database knows: ask it now and then.
   */
  #poll(behind: boolean): void {
    if (!behind) {
      clearTimeout(this.#polling);
      this.#polling = undefined;
      return;
    }
    const pollMs = (this.#options.pollMs ?? 10_000) * (1 + Math.random() / 2);
    this.#polling ??= setTimeout(() => {
      this.#polling = undefined;
      this.#ledger.poll();
      this.#update(); // and again, if it still is
    }, pollMs);
  }
}

/** Calls back when timers may have been asleep, or the network is back. */
function onWake(wake: () => void): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const visible = () => {
    if (document.visibilityState === "visible") wake();
  };
  window.addEventListener("online", wake);
  window.addEventListener("pageshow", wake);
  document.addEventListener("visibilitychange", visible);
  return () => {
    window.removeEventListener("online", wake);
    window.removeEventListener("pageshow", wake);
    document.removeEventListener("visibilitychange", visible);
  };
}
