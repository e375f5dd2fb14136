import { StreamRefusedError } from "./errors.js";
import type { FeedEvents, FeedState, Wants } from "./feed.js";
import type { Span } from "./history.js";
import type { Logger } from "./logger.js";
import type { Revision } from "./revision.js";
import type { Stream } from "./stream.js";
import { packState, type LeaderMessage, type TabMessage, type Told } from "./tab-messages.js";

interface Want {
  readonly since?: Revision;
  /** It follows the stream: where that stands, it stands. */
  settled: boolean;
}

export interface LeaderOptions {
  readonly tab: string;
  readonly term: number;
  /** The leading tab's own part. */
  readonly events: FeedEvents;
  readonly openStream: (events: FeedEvents) => Stream;
  readonly post: (message: LeaderMessage) => void;
  /** Calls back once the tab is gone, however it went. */
  readonly watch: (tab: string, gone: () => void, signal: AbortSignal) => void;
  /** This tab must leave the others to themselves. */
  readonly exile: () => void;
  readonly log: Logger;
}

/** The tab that holds the stream: it follows what all want, and tells all. */
export class Leader {
  readonly #options: LeaderOptions;
  readonly #stream: Stream;
  readonly #tabs = new Map<string, Map<string, Want>>();
  readonly #closing = new AbortController();
  #term: number;
  #claimed = 0; // a leadership that somebody takes for the later one
  #seq = 0;
  #framedAt = Date.now();

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#term = options.term;
    const { events } = options;
    this.#stream = options.openStream({
      wants: () => this.#wants(),
      apply: (frame) => {
        this.#framedAt = Date.now();
        events.apply(frame); // may refuse it: then nobody is told
        if (frame.type === "reset") this.#settleAll();
        this.#tell({ type: "apply", frame });
      },
      live: (id, spans) => {
        events.live(id, spans);
        this.#settle(spans);
        this.#tell({ type: "live", id, spans: [...spans].map(([t, s]) => [t, s.from, s.latest]) });
      },
      position: (id) => {
        events.position(id);
        this.#tell({ type: "position", id });
      },
      state: (state) => {
        if (this.#isOneTabsFault(state)) return;
        events.state(state);
        this.#tell({ type: "state", state: packState(state) });
      },
      seen: (frame) => {
        events.seen(frame);
        this.#tell({ type: "seen" });
      },
    });
    this.#hello();
  }

  get term(): number {
    return this.#term;
  }

  get state(): FeedState {
    return this.#stream.state;
  }

  /** When its stream last brought a frame. */
  get framedAt(): number {
    return this.#framedAt;
  }

  changed(): void {
    this.#stream.changed();
  }

  retry(): void {
    this.#stream.retry();
  }

  renew(): void {
    this.#stream.renew();
  }

  wake(): void {
    this.#stream.wake();
  }

  beat(): void {
    if (this.#claimed < this.#term) {
      this.#post({ type: "beat" });
      return;
    }
    // The lock is still ours, so the other one's is over: a clock was set back,
    // or two leaders began in the same millisecond. Had it been stolen while
    // this tab hung, that would have been heard before the beat.
    this.#term = this.#claimed + 1;
    this.#hello();
  }

  /** A message of another tab. */
  hear({ from, follows, body }: TabMessage): void {
    if (follows && follows.tab !== this.#options.tab) this.#claimed = Math.max(this.#claimed, follows.term);
    switch (body.type) {
      case "want":
        this.#want(from, body.topics);
        break;
      case "ping":
        this.#post({ type: "beat" });
        break;
      case "retry":
        this.#stream.retry();
        break;
      case "wake":
        this.#stream.wake();
        break;
    }
  }

  close(): void {
    this.#closing.abort();
    this.#stream.close();
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  #want(tab: string, topics: readonly (readonly [string, Revision?])[]): void {
    if (!this.#tabs.has(tab)) {
      const gone = () => {
        this.#tabs.delete(tab);
        this.#stream.changed();
      };
      this.#options.watch(tab, gone, this.#closing.signal);
    }
    this.#tabs.set(tab, new Map(topics.map(([topic, since]) => [topic, { since, settled: false }])));
    this.#stream.changed();
    this.#hello(); // who is new here knows nothing of the state
  }

  /** The union over all tabs, with the least since of those that don't follow yet. */
  #wants(): Wants {
    const union = new Map(this.#options.events.wants());
    for (const wants of this.#tabs.values()) {
      for (const [topic, { since, settled }] of wants) {
        const least = union.get(topic);
        const own = settled ? undefined : since;
        union.set(topic, own && least ? (own < least ? own : least) : (own ?? least));
      }
    }
    return union;
  }

  #settle(spans: ReadonlyMap<string, Span>): void {
    for (const wants of this.#tabs.values()) {
      for (const [topic, want] of wants) {
        const span = spans.get(topic);
        if (span && (want.since === undefined || want.since >= span.from)) want.settled = true;
      }
    }
  }

  /** After a reset nobody's past counts. */
  #settleAll(): void {
    for (const wants of this.#tabs.values()) for (const want of wants.values()) want.settled = true;
  }

  /**
   * A final refusal that may be due to one tab's topics must not cost the
   * others theirs: who wants what was never live gets a stream of its own, and
   * the refusal with it. If nobody does, each gets one. A refused token (401)
   * is everybody's.
   */
  #isOneTabsFault({ state, error }: FeedState): boolean {
    if (state !== "failed" || this.#tabs.size === 0) return false;
    if (error instanceof StreamRefusedError && error.status === 401) return false;
    const isNew = (wants: Iterable<Want>) => [...wants].some((w) => !w.settled && !w.since);
    const suspects = [...this.#tabs].filter(([, wants]) => isNew(wants.values())).map(([tab]) => tab);
    const self = [...this.#options.events.wants().values()].includes(undefined);
    const exiles = suspects.length > 0 || self ? suspects : [...this.#tabs.keys()];
    this.#options.log("warn", "tabs: the stream for all was refused", { error, exiles: exiles.length, self });
    this.#post({ type: "exile", tabs: exiles });
    for (const tab of exiles) this.#tabs.delete(tab);
    queueMicrotask(() => {
      if (this.#closed) return;
      if (self) this.#options.exile();
      else this.#stream.retry();
    });
    return true;
  }

  #hello(): void {
    this.#tell({ type: "state", state: packState(this.#stream.state) });
  }

  #tell(body: Told): void {
    this.#seq++;
    this.#post(body);
  }

  #post(body: LeaderMessage["body"]): void {
    if (this.#closed) return;
    this.#options.post({ from: this.#options.tab, term: this.#term, seq: this.#seq, body });
  }
}
