import { Caller } from "./caller.js";
import type { FreshetOptions, SubscribeOptions } from "./client-options.js";
import { StreamEndedError, StreamProtocolError, StreamRefusedError } from "./errors.js";
import type { Feed, FeedEvents, FeedState } from "./feed.js";
import type { Frame } from "./frame.js";
import type { Span } from "./history.js";
import { Ledger } from "./ledger.js";
import { onConsole, silent, type Logger } from "./logger.js";
import { Nodes } from "./nodes.js";
import type { Revision } from "./revision.js";
import { freshnessOf, type Freshness, type State, type Status } from "./status.js";
import { Stream, type StreamOptions } from "./stream.js";
import { guarded, Subscription } from "./subscription.js";
import { LaterTabs } from "./tabs-later.js";
import { canShare } from "./tabs-options.js";
import { Tokens } from "./tokens.js";

export type { FreshetOptions, SubscribeOptions } from "./client-options.js";
export type { Freshness, State, Status } from "./status.js";

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
  readonly #accountListeners = new Set<() => void>();
  readonly #renewedListeners = new Set<() => void>();
  readonly #stopListening: () => void;
  readonly #tokens: Tokens | undefined;
  readonly #stream: StreamOptions;
  #feed: Feed;
  #feedState: FeedState = { state: "idle", streaming: false, lagMs: 0 };
  #status: Status = { state: "idle", freshness: "offline", lagMs: 0 };
  #polling: ReturnType<typeof setTimeout> | undefined;
  #denied = false; // and all were told, since the stream was live
  #telling = false; // who listens, soon
  #closed = false;

  constructor(options: FreshetOptions = {}) {
    this.#options = options;
    this.#log = options.logger ?? silent;
    const { url = "/events", headers, throttleMs, retryMs = 1000, maxRetryMs = 30_000, fetch } = options;
    this.#tokens = options.token && new Tokens({
      source: options.token,
      retryMs,
      maxRetryMs,
      log: this.#log,
      renewed: () => {
        this.#feed.renew();
        for (const listener of this.#renewedListeners) guarded(listener);
      },
      left: () => this.#leave(),
      changed: () => this.#update(),
    });
    const nodes = new Nodes(url);
    this.#stream = {
      nodes,
      tokens: this.#tokens,
      headers,
      throttleMs,
      retryMs,
      maxRetryMs,
      fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
      log: this.#log,
    };
    this.caller = new Caller(this.#tokens, nodes);
    this.#feed = this.#openFeed();
    this.#stopListening = onWake(() => this.#feed.wake());
  }

  /** Tells the page's author of a mistake: by the `logger`, or without one on the console. @internal */
  warn(message: string, details: Readonly<Record<string, unknown>>): void {
    const log = this.#options.logger ?? onConsole;
    log("warn", message, details);
  }

  /** Begins a subscription. `close` it to end it. */
  subscribe(options: SubscribeOptions): Subscription {
    const subscription = new Subscription(options, {
      changed: () => {
        this.#ledger.changed(subscription);
        this.#wantsChanged();
      },
      closed: () => {
        this.#ledger.remove(subscription);
        this.#wantsChanged();
      },
      freshness: (topics) => this.freshnessOf(topics),
      caughtUp: (topic) => this.#ledger.caughtUp(subscription, topic),
    });
    this.#ledger.add(subscription);
    this.#wantsChanged();
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
    const all = [...topics]; // an iterator is read once
    // What nobody wants, or not any more, is told to nobody, though a stream may still have it.
    if (state === "closed" || !this.#ledger.wantsAll(all)) return "offline";
    if (all.some((topic) => this.#feedState.refused?.topics.includes(topic))) return "offline";
    if (!this.#feedState.streaming) return freshness;
    if (this.#ledger.follows(all)) return freshnessOf({ state: "live", lagMs }, this.#maxLagMs);
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

  /**
   * Another account is signed in, or none: forget what the last one has read. For
   * what `bindQueries` doesn't look after.
   */
  onAccountChange(listener: () => void): () => void {
    this.#accountListeners.add(listener);
    return () => this.#accountListeners.delete(listener);
  }

  /** There is another token of the same account, whose claims may be others. */
  onRenewed(listener: () => void): () => void {
    this.#renewedListeners.add(listener);
    return () => this.#renewedListeners.delete(listener);
  }

  /** Connects again now, and asks for a token again. */
  retry(): void {
    this.#tokens?.retry();
    this.#feed.retry();
  }

  /**
   * The same account has another credential. With the `token` option: gets it. With
   * a cookie: the browser has it. A stream is opened with it, from the last id, and
   * the old one let go once the new one is live. Nothing is refetched for it. Of
   * several tabs, that does it which holds the stream; call it in each.
   */
  renew(): void {
    if (this.#tokens) this.#tokens.renew();
    else this.#feed.renew();
  }

  /**
   * Somebody else has signed in, or nobody is signed in any more: call it in each
   * tab, once the token source or the cookie is the new one's. The stream and the
   * token of the last account are let go, answers to its reads that are under way
   * dropped, `bindQueries` empties its QueryClient, and all begins anew. A token
   * source that brings another subject's token, or none, has it done by itself.
   */
  changeAccount(): void {
    this.#tokens?.forget();
    this.#leave();
  }

  /**
   * What goes to one of the nodes of `url` goes to the one that is used: give it to
   * `createConnectTransport({ baseUrl, fetch: freshet.fetch })`, or to `freshetFetch`.
   */
  readonly fetch: typeof globalThis.fetch = (input, init) => this.#stream.nodes.send(input, init, this.#stream.fetch);

  /** Ends the stream and all subscriptions for good. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopListening();
    this.#tokens?.close();
    this.#feed.close();
    this.#feedState = { state: "idle", streaming: false, lagMs: 0 };
    this.#update();
  }

  // What a transport needs; see ./connect for the one for Connect.

  /** Sends requests as whoever is signed in. */
  readonly caller: Caller;

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

  #openFeed(): Feed {
    const events = this.#events();
    const openStream = (o: StreamOptions, e: FeedEvents) => new Stream(o, e);
    const tabs = typeof this.#options.tabs === "object" ? this.#options.tabs : {};
    return this.#options.tabs !== false && canShare(tabs)
      ? new LaterTabs(tabs, this.#stream, events, openStream)
      : openStream(this.#stream, events);
  }

  #leave(): void {
    this.#log("info", "the account has changed: all begins anew");
    this.caller.left();
    this.#denied = false;
    this.#feed.close();
    this.#ledger.clear();
    this.#feedState = { state: "idle", streaming: false, lagMs: 0 };
    for (const listener of this.#accountListeners) guarded(listener);
    if (!this.#closed) {
      this.#feed = this.#openFeed();
      this.#feed.changed();
    }
    this.#update();
  }

  #events(): FeedEvents {
    return {
      wants: () => this.#ledger.wants(),
      apply: (frame) => this.#apply(frame),
      live: (id: Revision, spans: ReadonlyMap<string, Span>) => {
        this.#ledger.live(id, spans);
        this.#update({ revision: id, topics: true });
      },
      position: (id) => {
        this.#ledger.position(id);
        this.#update({ revision: id });
      },
      state: (state) => {
        const isRefusal = String(state.refused?.topics) !== String(this.#feedState.refused?.topics);
        this.#feedState = state;
        this.#heedDenial(state);
        if (isRefusal) this.#warnRefused(state);
        this.#update(isRefusal ? { topics: true } : {});
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

  /** A grant was withdrawn, nobody says which: who may not read any more is told so when it reads. */
  #heedDenial({ state, streaming, error }: FeedState): void {
    if (state === "live") this.#denied = false;
    const denied =
      (error instanceof StreamEndedError && error.reason === "denied") ||
      (error instanceof StreamRefusedError && error.status === 403);
    if (!denied || streaming || this.#denied) return;
    this.#denied = true;
    this.#ledger.ask("denied");
  }

  /** Whose topics can't be told sees nothing of it but data that stays as it is. */
  #warnRefused({ refused }: FeedState): void {
    const topics = refused?.topics.filter((topic) => this.#ledger.topics().has(topic)) ?? [];
    if (refused && topics.length > 0) this.warn(`freshet: ${topics.join(", ")}: ${refused.message}`, { topics });
  }

  /** Topics came or went. Told once for all of a moment. */
  #wantsChanged(): void {
    this.#feed.changed();
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      if (!this.#closed) this.#update({ topics: true });
    });
  }

  /**
   * Works the status out anew, and tells who listens when it is another, or the
   * stream follows, or is to follow, other `topics`: `freshnessOf` them has no other sign.
   */
  #update(change: { revision?: Revision; topics?: true } = {}): void {
    const { lagMs, error } = this.#feedState;
    const old = this.#status;
    const next = {
      state: this.#state(),
      revision: change.revision ?? old.revision,
      lagMs,
      error,
      tokenError: this.#tokens?.error,
    };
    const freshness = freshnessOf(next, this.#maxLagMs);
    this.#poll(this.#feedState.streaming && lagMs > this.#maxLagMs);
    if (
      !change.topics &&
      old.state === next.state &&
      old.freshness === freshness &&
      old.revision === next.revision &&
      old.lagMs === next.lagMs &&
      old.error === next.error &&
      old.tokenError === next.tokenError
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
    for (const topic of this.#feedState.refused?.topics ?? []) topics.delete(topic);
    if (topics.size === 0) return "failed";
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
      this.#ledger.ask("poll");
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
