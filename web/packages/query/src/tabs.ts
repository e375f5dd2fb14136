import type { Feed, FeedEvents } from "./feed.js";
import type { Stream, StreamOptions } from "./stream.js";
import { Group, type TabChannel } from "./tab-group.js";
import type { TabsOptions } from "./tabs-options.js";

export type OpenStream = (options: StreamOptions, events: FeedEvents) => Stream;

/**
 * One stream for all tabs of a browser that have the same address and session.
 * A tab that can't share has one of its own.
 */
export class Tabs implements Feed {
  readonly #options: TabsOptions;
  readonly #stream: StreamOptions;
  readonly #events: FeedEvents;
  readonly #openStream: OpenStream;
  #name: string | undefined;
  #group: Group | undefined;
  #own: Stream | undefined;
  #entering = 0;
  #closed = false;

  constructor(
    options: TabsOptions,
    stream: StreamOptions,
    events: FeedEvents,
    openStream: OpenStream,
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#events = events;
    this.#openStream = openStream;
    void this.#enter();
  }

  changed(): void {
    // Other topics may be welcome where the last ones were refused.
    if (this.#own && this.#name) void this.#enter();
    else (this.#group ?? this.#own)?.changed();
  }

  retry(): void {
    void this.#enter().then(() => (this.#group ?? this.#own)?.retry());
  }

  renew(): void {
    // Only now it may be known who the user is.
    void this.#enter().then(() => (this.#group ?? this.#own)?.renew());
  }

  wake(): void {
    (this.#group ?? this.#own)?.wake();
  }

  close(): void {
    this.#closed = true;
    this.#leave();
  }

  /** Whether this tab holds the stream. */
  get leads(): boolean {
    return this.#group?.leads ?? this.#own !== undefined;
  }

  /** Joins the tabs of its session, or stays among them. */
  async #enter(): Promise<void> {
    const entering = ++this.#entering;
    const name = await this.#nameOfSession();
    if (this.#closed || entering !== this.#entering) return;
    if (name === this.#name && (this.#group || (this.#own && !name))) return;
    this.#leave();
    this.#name = name;
    if (name === undefined) {
      this.#standAlone();
      return;
    }
    this.#group = new Group(
      {
        name,
        locks: this.#options.locks ?? navigator.locks,
        openChannel:
          this.#options.openChannel ?? ((channel) => new BroadcastChannel(channel) as TabChannel),
        openStream: (events) => this.#openStream(this.#stream, events),
        exile: () => this.#standAlone(),
        isVisible: () => typeof document === "undefined" || document.visibilityState === "visible",
        lifecycle: this.#options.lifecycle ?? (typeof document === "undefined" ? undefined : document),
        beatMs: this.#options.beatMs ?? 1000,
        log: this.#stream.log,
      },
      this.#events,
    );
  }

  /** A stream of this tab's own; it goes on from where the shared one stood. */
  #standAlone(): void {
    this.#leave();
    this.#own = this.#openStream(this.#stream, this.#events);
    this.#own.changed();
  }

  #leave(): void {
    this.#group?.close();
    this.#own?.close();
    this.#group = this.#own = undefined;
  }

  /** Undefined: it is not known who the user is, so nobody shares. */
  async #nameOfSession(): Promise<string | undefined> {
    const { tokens, headers } = this.#stream;
    const { session: given } = this.#options;
    let session = typeof given === "function" ? given() : given;
    if (session === undefined && tokens) {
      session = (await tokens.account().catch(() => undefined)) || undefined;
    } else if (session === undefined && !headers) {
      session = "";
    }
    if (session === undefined) {
      this.#stream.log("info", "tabs: no session is known, this tab has a stream of its own");
    }
    return this.#nameOf(session);
  }

  #nameOf(session: string | undefined): string | undefined {
    if (session === undefined) return undefined;
    const { nodes, throttleMs } = this.#stream;
    return JSON.stringify(["freshet/1", nodes.name, throttleMs ?? null, session]);
  }
}
