import { Connection, type ConnectionRequest } from "./connection.js";
import { StreamEndedError, StreamLostError, StreamRefusedError, type StreamError } from "./errors.js";
import type { Feed, FeedEvents, FeedState, Wants } from "./feed.js";
import type { Frame } from "./frame.js";
import { History } from "./history.js";
import type { Logger } from "./logger.js";
import type { Nodes } from "./nodes.js";
import { isEarlierEpoch, type Revision } from "./revision.js";
import type { Tokens } from "./tokens.js";

export interface StreamOptions {
  readonly nodes: Nodes;
  readonly headers?: (() => HeadersInit | Promise<HeadersInit>) | undefined;
  readonly tokens?: Tokens | undefined;
  readonly throttleMs?: number | undefined;
  readonly retryMs: number;
  readonly maxRetryMs: number;
  readonly fetch: typeof globalThis.fetch;
  readonly log: Logger;
}

/** A connection with what it covers. */
interface Link {
  readonly connection: Connection;
  readonly topics: ReadonlySet<string>;
  /** Topics caught up from a revision, and that. */
  since: ReadonlyMap<string, Revision>;
  id?: Revision;
  /** The node that it goes to. */
  readonly node: number;
  /** When it was ready. */
  readyAt?: number;
  /** It has been sent, … */
  sent: boolean;
  /** … with this token. */
  token?: string | undefined;
}

/** Topics that were told up to `id`: where the next stream takes over. */
interface Position {
  readonly topics: ReadonlySet<string>;
  readonly id: Revision;
}

/** Components come and go in one go; their topics change the stream once. */
const settleMs = 20;
const maxDelayMs = 2 ** 31 - 1;

/**
 * One stream of the server, kept open. When the topics grow, or somebody brings
 * older data, a new one is opened before the old one closes, from the last id,
 * so that no notice falls between.
 */
export class Stream implements Feed {
  readonly #options: StreamOptions;
  readonly #events: FeedEvents;
  readonly #history = new History();
  #state: FeedState = { state: "idle", streaming: false, lagMs: 0 };
  #current: Link | undefined; // ready
  #next: Link | undefined; // opening or catching up
  #resume: Position | undefined;
  #last: Revision | undefined; // of any frame: names the epoch
  #settling: ReturnType<typeof setTimeout> | undefined;
  #waiting: ReturnType<typeof setTimeout> | undefined;
  #notBefore = 0; // Retry-After
  #retryMs: number;
  #failures = 0;
  #tried = 0; // nodes that have failed since a stream lasted
  #refused: StreamRefusedError | undefined; // names topics that the server can't tell
  #renewing = false; // the current stream is to have a successor, whatever it covers
  #closed = false;

  constructor(options: StreamOptions, events: FeedEvents) {
    this.#options = options;
    this.#events = events;
    this.#retryMs = options.retryMs;
  }

  get state(): FeedState {
    return this.#state;
  }

  changed(): void {
    if (this.#closed) return;
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      this.#sync();
    }, settleMs);
  }

  retry(): void {
    if (this.#closed) return;
    this.#options.tokens?.retry();
    this.#refused = undefined;
    this.#reconnect();
  }

  renew(): void {
    this.#renewing = true;
    if (this.#next?.sent === false) return; // it will be signed with it
    if (this.#waiting !== undefined && Date.now() < this.#notBefore) return; // the next one has it
    this.#next?.connection.close();
    this.#next = undefined;
    this.#reconnect();
  }

  wake(): void {
    this.#current?.connection.checkSilence();
    this.#next?.connection.checkSilence();
    if (this.#waiting !== undefined && Date.now() >= this.#notBefore) this.#reconnect();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#settling);
    this.#disconnect();
  }

  /** Brings the connections in line with the topics. */
  #sync(): void {
    if (this.#closed) return;
    this.#tellLive();
    const wants = this.#wants();
    const refused = this.#refused;
    if (wants.size === 0) {
      this.#disconnect();
      this.#resume = undefined; // nobody is left who was told anything
      this.#history.clear();
      this.#set({ state: refused ? "failed" : "idle", streaming: false, error: refused, refused });
      return;
    }
    this.#set({ refused });
    // A smaller set keeps its stream: a notice too many costs less than a handshake.
    if (this.#current && !this.#renewing && this.#covers(this.#current, wants)) {
      this.#next?.connection.close();
      this.#next = undefined;
      this.#stopWaiting();
      this.#set({ state: "live", error: undefined });
      return;
    }
    if (this.#next && willCover(this.#next, wants)) return;
    if (this.#waiting === undefined) this.#open(wants);
  }

  /**
   * What is wanted, but for what the server can't tell: one such topic would have the
   * stream of all others refused. One that nobody wants any more is tried anew by the
   * next who does.
   */
  #wants(): Wants {
    const all = this.#events.wants();
    if (!this.#refused) return all;
    this.#refused = only(this.#refused, (topic) => all.has(topic));
    const wants = new Map(all);
    for (const topic of this.#refused?.topics ?? []) wants.delete(topic);
    return wants;
  }

  #covers(link: Link, wants: Wants): boolean {
    for (const [topic, since] of wants) {
      if (!link.topics.has(topic) || !this.#history.covers(topic, since)) return false;
    }
    return true;
  }

  #tellLive(): void {
    const { id, topics } = this.#current ?? {};
    if (id && topics) this.#events.live(id, this.#history.spans(topics));
  }

  #open(wants: Wants): void {
    this.#next?.connection.close();
    const from = this.#resume;
    const topics = new Set(wants.keys());
    const since = new Map<string, Revision>();
    for (const [topic, wanted] of wants) {
      const told = from?.topics.has(topic) ? from.id : undefined;
      const lowest = told && wanted ? where(told, wanted) : (told ?? wanted);
      if (lowest) since.set(topic, lowest);
    }
    const { nodes, throttleMs, fetch } = this.#options;
    const node = nodes.current;
    const headers = () => this.#headers(link);
    const request: ConnectionRequest = { url: nodes.url(node), topics, since, throttleMs, headers, fetch };
    const connection = new Connection(request, {
      frame: (frame) => this.#frame(link, frame),
      retry: (ms) => (this.#retryMs = Math.max(ms, 100)),
    });
    const link: Link = { connection, topics, since, node, sent: false };
    this.#next = link;
    this.#options.log("debug", "stream: open", { topics: topics.size, since: since.size });
    if (!this.#current) this.#set({ state: "connecting" });
    connection.run().then(
      () => this.#ended(link, new StreamLostError("the server closed the stream")),
      (error: StreamError) => this.#ended(link, error),
    );
  }

  async #headers(link: Link): Promise<Headers> {
    const headers = new Headers(await this.#options.headers?.());
    link.token = await this.#options.tokens?.get();
    link.sent = true;
    if (link.token) headers.set("authorization", `Bearer ${link.token}`);
    return headers;
  }

  #frame(link: Link, frame: Frame): void {
    this.#events.apply(frame);
    if (frame.type === "reset" || (this.#last && isEarlierEpoch(this.#last, frame.revision))) {
      this.#history.reset(frame.revision);
      link.since = new Map([...link.topics].map((topic) => [topic, frame.revision]));
    }
    this.#last = frame.revision;
    if (frame.id) link.id = frame.id;
    // A part of a split list has no id: if the stream breaks before the last
    // one, the catch-up tells all of it again.
    if (frame.type === "invalidate") this.#history.changed(frame.topics, frame.revision);
    if (frame.type === "ready") {
      this.#becameReady(link, frame.revision, frame.heartbeatMs);
      if (frame.expiresMs > 0) this.#options.tokens?.counts(link.token, frame.expiresMs);
    }
    if (link === this.#current && link.id) {
      this.#resume = { topics: link.topics, id: link.id };
      if (frame.id) this.#events.position(link.id);
      if (frame.type === "frontier") this.#set({ lagMs: frame.lagMs });
    }
    this.#events.seen(frame);
  }

  #becameReady(link: Link, revision: Revision, heartbeatMs: number): void {
    if (this.#next === link) this.#next = undefined;
    if (this.#current !== link) this.#current?.connection.close();
    this.#current = link;
    this.#renewing = false;
    link.readyAt = Date.now();
    link.id ??= revision;
    this.#failures = 0;
    this.#history.begin(link.topics, link.since, revision);
    this.#options.log("debug", "stream: ready", { topics: link.topics.size, revision });
    // A server that is behind says so right after `ready`.
    this.#set({ state: "live", streaming: true, lagMs: 0, heartbeatMs: heartbeatMs || undefined, error: undefined });
    this.#tellLive();
    this.changed(); // topics that came meanwhile
  }

  #ended(link: Link, error: StreamError): void {
    if (link === this.#current) this.#current = undefined;
    else if (link === this.#next) this.#next = undefined;
    else return; // closed by us
    const streaming = this.#current !== undefined;
    if (this.#closed) return;
    if (this.#next) {
      this.#set({ state: "connecting", streaming, error }); // its successor is on the way
      return;
    }
    const refused = error instanceof StreamRefusedError ? error : undefined;
    const { tokens } = this.#options;
    const is401 = refused?.status === 401;
    const over = is401 || (error instanceof StreamEndedError && error.reason === "expired");
    if (over && tokens?.refuse(link.token)) {
      this.#options.log("info", "stream: another token is asked for", { error });
      this.#set({ streaming, error });
      this.#sync();
      return;
    }
    if (refused?.topics.some((topic) => link.topics.has(topic))) {
      this.#options.log("error", "stream: refused for some of the topics", { error });
      this.#refused = naming(refused, [...new Set([...(this.#refused?.topics ?? []), ...refused.topics])]);
      this.#set({ streaming });
      this.#sync();
      return;
    }
    if (refused?.fatal && !(is401 && tokens)) {
      const wants = this.#wants();
      // Perhaps it was refused for what nobody wants any more.
      if ([...link.topics].some((topic) => !wants.has(topic))) return this.#sync();
      this.#options.log("error", "stream: refused", { error });
      const state = is401 ? "unauthenticated" : "failed";
      // A credential that was refused takes nothing from a stream that has another.
      this.#set(is401 && streaming ? { streaming, error } : { state, streaming, error });
      return;
    }
    if (this.#movesOn(link, error)) {
      this.#options.log("warn", "stream: lost, on to the next node", { error });
      this.#set({ streaming, error });
      this.#sync();
      return;
    }
    this.#failures++;
    const doubled = this.#retryMs * 2 ** Math.min(this.#failures - 1, 20);
    const delay = Math.min(doubled, Math.max(this.#options.maxRetryMs, this.#retryMs));
    // Never sooner than asked; a crowd that was cut off together comes back spread out.
    const wait = Math.max(delay, refused?.retryAfterMs ?? 0) * (1 + Math.random() / 2);
    if (refused?.retryAfterMs) this.#notBefore = Date.now() + refused.retryAfterMs;
    this.#options.log("warn", "stream: lost", { error, waitMs: Math.round(wait) });
    const state = is401 ? "unauthenticated" : "waiting";
    this.#set(streaming ? { streaming, error } : { state, streaming, error });
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => this.#reconnect(), Math.min(wait, maxDelayMs));
  }

  /** Whether there is a node left that hasn't failed since a stream lasted: it is tried without a wait. */
  #movesOn(link: Link, error: StreamError): boolean {
    const { nodes, retryMs } = this.#options;
    // Else nodes that all end streams right after `ready` would be asked in a circle.
    if (link.readyAt !== undefined && Date.now() - link.readyAt >= retryMs) this.#tried = 0;
    if (!link.sent || error instanceof StreamEndedError) return false; // the same elsewhere
    if (error instanceof StreamRefusedError && error.status < 500 && error.status !== 408) return false;
    nodes.failed(link.node);
    if (++this.#tried < nodes.count) return true;
    this.#tried = 0;
    return false;
  }

  #reconnect(): void {
    this.#notBefore = 0;
    this.#stopWaiting();
    this.#sync();
  }

  #stopWaiting(): void {
    clearTimeout(this.#waiting);
    this.#waiting = undefined;
  }

  #disconnect(): void {
    this.#stopWaiting();
    const links = [this.#current, this.#next];
    this.#current = this.#next = undefined;
    for (const link of links) link?.connection.close();
  }

  #set(change: Partial<FeedState>): void {
    const old = this.#state;
    const next = { ...old, ...change };
    this.#state = next;
    if (
      old.state !== next.state ||
      old.streaming !== next.streaming ||
      old.lagMs !== next.lagMs ||
      old.heartbeatMs !== next.heartbeatMs ||
      old.error !== next.error ||
      old.refused !== next.refused
    ) {
      this.#events.state(next);
    }
  }
}

/** The refusal of those topics that are still wanted, if there are any. */
function only(refused: StreamRefusedError, wanted: (topic: string) => boolean): StreamRefusedError | undefined {
  const topics = refused.topics.filter(wanted);
  if (topics.length === refused.topics.length) return refused;
  return topics.length > 0 ? naming(refused, topics) : undefined;
}

/** A refusal with other topics. */
function naming({ status, code, message }: StreamRefusedError, topics: readonly string[]): StreamRefusedError {
  return new StreamRefusedError(status, code, message, undefined, topics);
}

/** Whether a stream that is being opened will do. */
function willCover(link: Link, wants: Wants): boolean {
  for (const [topic, wanted] of wants) {
    if (!link.topics.has(topic)) return false;
    const since = link.since.get(topic);
    // Without a since it begins with `ready`, which serves whoever has no past.
    if (wanted !== undefined && (since === undefined || wanted < since)) return false;
  }
  return true;
}

/**
 * Where a stream begins that goes on from one and is wanted from another
 * revision: at the lower, unless an answer came from a later history than the
 * last stream: then there, so that the server says which is the current one.
 */
function where(told: Revision, wanted: Revision): Revision {
  return told < wanted && !isEarlierEpoch(told, wanted) ? told : wanted;
}
