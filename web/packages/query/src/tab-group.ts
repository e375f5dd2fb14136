import { defaultHeartbeatMs, type Feed, type FeedEvents, type FeedState } from "./feed.js";
import type { Frame } from "./frame.js";
import type { Logger } from "./logger.js";
import type { Stream } from "./stream.js";
import { Leader } from "./tab-leader.js";
import { unpackState, type LeaderMessage, type Message, type TabMessage } from "./tab-messages.js";

/** The part of `navigator.locks` that is used. */
export interface TabLocks {
  request(
    name: string,
    options: { signal?: AbortSignal; steal?: boolean },
    callback: () => Promise<void> | void,
  ): Promise<unknown>;
}

/** The part of a BroadcastChannel that is used. */
export interface TabChannel {
  onmessage: ((event: { data: unknown }) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

export interface GroupOptions {
  /** Tabs of the same name share. */
  readonly name: string;
  readonly locks: TabLocks;
  readonly openChannel: (name: string) => TabChannel;
  readonly openStream: (events: FeedEvents) => Stream;
  /** This tab can't share: it needs a stream of its own. */
  readonly exile: () => void;
  readonly isVisible: () => boolean;
  /** Tells `freeze` and `resume`, as a document does. */
  readonly lifecycle: EventTarget | undefined;
  readonly beatMs: number;
  readonly log: Logger;
}

const settleMs = 20;
/** Browsers let the timers of a hidden tab run once a minute; then it sleeps. */
const asleepMs = 90_000;

/**
 * One of the tabs that share a stream. The one that holds the lock leads; it
 * opens the stream and tells the others. Each tab says what it wants and up to
 * where it was told; whoever leads next asks all of them, so the new stream
 * begins where the one stands that was told least. What a tab was told counts
 * only while it has missed none of the leader's messages.
 *
 * A tab that the browser freezes goes on answering messages, but reads no
 * stream and runs no timer (F82). So it gives the lead away when it is told,
 * and when it finds that it slept; and the others judge a leader by the frames
 * that it passes on. Its beats and answers count only while there is no stream
 * that could bring any.
 */
export class Group implements Feed {
  readonly #options: GroupOptions;
  readonly #events: FeedEvents;
  readonly #id = crypto.randomUUID();
  readonly #channel: TabChannel;
  readonly #closing = new AbortController();
  #queued: AbortController | undefined; // waits for the lock
  #leader: Leader | undefined; // this tab leads
  #release: (() => void) | undefined;
  #follows: { tab: string; term: number } | undefined;
  #seq = 0;
  #synced = false; // told all since `live`, without a gap
  #frame: Frame | undefined;
  #state: FeedState = { state: "connecting", streaming: false, lagMs: 0 };
  #present = false; // our own lock is held: the leader can see us go
  #frozen = false;
  #heardAt = Date.now();
  #framedAt = Date.now();
  #tickedAt = Date.now();
  #pingedAt = 0;
  #settling: ReturnType<typeof setTimeout> | undefined;
  readonly #ticker: ReturnType<typeof setInterval>;

  constructor(options: GroupOptions, events: FeedEvents) {
    this.#options = options;
    this.#events = events;
    this.#channel = options.openChannel(options.name);
    this.#channel.onmessage = ({ data }) => this.#hear(data as Message);
    this.#ticker = setInterval(() => this.#tick(), options.beatMs);
    const { signal } = this.#closing;
    const here = () => {
      this.#present = true;
      this.#say({ type: "want", topics: [...events.wants()] });
      this.#queue();
      return closed(signal);
    };
    options.lifecycle?.addEventListener("freeze", () => this.#freeze(), { signal });
    options.lifecycle?.addEventListener("resume", () => this.#thaw(), { signal });
    options.locks.request(tabLock(options.name, this.#id), { signal }, here).catch((e) => this.#broken(e));
  }

  /** For tests and devtools. */
  get leads(): boolean {
    return this.#leader !== undefined;
  }

  changed(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      if (this.#leader) this.#leader.changed();
      else {
        this.#want();
        this.#events.state(this.#state); // "idle" may have become untrue, or true
      }
    }, settleMs);
  }

  retry(): void {
    if (this.#leader) this.#leader.retry();
    else this.#say({ type: "retry" });
  }

  renew(): void {
    this.#leader?.renew(); // of another tab: that has the credential too, and sees to it
  }

  wake(): void {
    if (this.#leader) this.#leader.wake();
    else {
      this.#say({ type: "wake" });
      this.#tick();
    }
  }

  close(): void {
    clearInterval(this.#ticker);
    clearTimeout(this.#settling);
    this.#resign();
    this.#closing.abort();
    this.#channel.onmessage = null;
    this.#channel.close();
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** From now on nothing runs but what messages bring: it can't lead. */
  #freeze(): void {
    this.#frozen = true;
    this.#resign();
  }

  #thaw(): void {
    this.#frozen = false;
    this.#tickedAt = this.#framedAt = Date.now();
    this.#synced = false;
    this.#want(); // asks for what it missed
    if (!this.#queued) this.#queue();
  }

  #queue(): void {
    if (this.#closed || this.#frozen) return;
    this.#queued = new AbortController();
    this.#hold({ signal: this.#queued.signal });
  }

  /** Leads for as long as the lock is held. */
  #hold(how: { signal?: AbortSignal; steal?: boolean }): void {
    let leader: Leader | undefined;
    const lead = () =>
      new Promise<void>((resolve) => {
        if (this.#closed || how.signal?.aborted) return resolve();
        if (how.signal) this.#queued = undefined; // this one waits no more
        this.#resign(); // in case it was stolen from ourselves
        this.#release = resolve;
        leader = this.#lead();
      });
    const lost = (error: unknown) => {
      if (this.#closed || how.signal?.aborted) return;
      if (!leader && !isAbort(error)) return this.#broken(error);
      // Stolen, because this tab was hung. It goes on as one of the others.
      leader?.close();
      if (this.#leader === leader) this.#resign();
      if (!this.#leader && !this.#queued) this.#queue();
    };
    const given = () => {
      if (!this.#closed && !how.signal?.aborted && !this.#leader && !this.#queued) this.#queue();
    };
    this.#options.locks.request(this.#options.name, how, lead).then(given, lost);
  }

  #lead(): Leader {
    const { name, locks, openStream, exile, log } = this.#options;
    const term = Math.max(Date.now(), (this.#follows?.term ?? 0) + 1);
    log("info", "tabs: this tab leads", { term });
    const leader = new Leader({
      tab: this.#id,
      term,
      events: this.#events,
      openStream,
      post: (message) => this.#post(message),
      watch: (tab, gone, signal) => {
        // Granted when its tab is gone, closed or crashed.
        locks.request(tabLock(name, tab), { signal }, gone).catch(() => {});
      },
      exile,
      log,
    });
    this.#leader = leader;
    this.#follows = undefined;
    leader.changed(); // after a moment, in which the others say what they want
    return leader;
  }

  #resign(): void {
    this.#queued?.abort();
    this.#queued = undefined;
    this.#leader?.close();
    this.#leader = undefined;
    this.#release?.();
    this.#release = undefined;
    this.#heardAt = Date.now();
  }

  #hear(message: Message): void {
    if (this.#closed) return;
    if ("term" in message) this.#follow(message);
    else if (message.body.type !== "ping" || this.#awake) this.#leader?.hear(message);
  }

  /** Whether its timers run, on which it depends to open a stream again. */
  get #awake(): boolean {
    return Date.now() - this.#tickedAt < Math.max(asleepMs, 3 * this.#options.beatMs);
  }

  #follow({ from, term, seq, body }: LeaderMessage): void {
    if (this.#leader) {
      if (term <= this.#leader.term) return;
      this.#resign(); // the lock was stolen; we'll hear of that, too
    }
    const known = this.#follows?.tab === from && this.#follows.term === term;
    if (!known && this.#follows && term <= this.#follows.term) return; // one that was replaced
    this.#heardAt = Date.now();
    this.#pingedAt = 0;
    const isTold = body.type !== "beat" && body.type !== "exile";
    const isNext = known && seq === this.#seq + (isTold ? 1 : 0);
    if (!known) this.#framedAt = this.#heardAt;
    this.#follows = { tab: from, term };
    this.#seq = seq;
    if (!isNext) {
      this.#synced = false;
      this.#want();
    }
    switch (body.type) {
      case "apply":
        this.#frame = body.frame;
        this.#framedAt = this.#heardAt;
        try {
          this.#events.apply(body.frame);
        } catch (error) {
          // The leader's stream then begins where this tab is.
          this.#options.log("warn", "tabs: the leader is of an earlier epoch", { error });
          this.#want();
        }
        break;
      case "live":
        this.#synced = true;
        this.#events.live(body.id, new Map(body.spans.map(([t, from, latest]) => [t, { from, latest }])));
        break;
      case "position":
        if (this.#synced) this.#events.position(body.id);
        break;
      case "seen":
        if (this.#frame) this.#events.seen(this.#frame);
        this.#frame = undefined;
        break;
      case "state":
        if (!this.#state.streaming) this.#framedAt = this.#heardAt;
        this.#state = unpackState(body.state);
        this.#events.state(this.#state);
        break;
      case "exile":
        if (body.tabs.includes(this.#id)) this.#options.exile();
        break;
      case "beat":
        break;
    }
  }

  /** Beats, or judges the leader. */
  #tick(): void {
    const { beatMs } = this.#options;
    const now = Date.now();
    const late = now - this.#tickedAt - beatMs;
    this.#tickedAt = now;
    if (this.#leader) this.#beat(this.#leader, late);
    else if (this.#present && !this.#frozen) this.#judge(now, late);
  }

  #beat(leader: Leader, late: number): void {
    const heartbeatMs = leader.state.heartbeatMs ?? defaultHeartbeatMs;
    if (late > heartbeatMs && Date.now() - leader.framedAt > heartbeatMs) {
      this.#options.log("warn", "tabs: this tab slept, another may lead", { lateMs: late });
      this.#resign();
      this.#queue();
      return;
    }
    leader.beat();
  }

  /** A timer that slept asks before it judges: what it missed is on its way. */
  #judge(now: number, late: number): void {
    const { beatMs, isVisible } = this.#options;
    const { streaming, heartbeatMs = defaultHeartbeatMs } = this.#state;
    if (streaming) {
      // Two heartbeats, so that all is told anew within two and a half.
      if (late > 2 * beatMs) this.#framedAt = Math.max(this.#framedAt, now - 2 * heartbeatMs + 2 * beatMs);
      if (now - this.#framedAt >= 2 * heartbeatMs && isVisible()) return this.#steal("its stream is not read");
    }
    if (now - this.#heardAt < 2 * beatMs) return;
    if (this.#pingedAt === 0) {
      // A tab in the background beats seldom, but answers at once.
      this.#pingedAt = now;
      this.#say({ type: "ping" });
    } else if (now - this.#pingedAt >= 0.9 * beatMs && isVisible()) this.#steal("it hangs");
  }

  #steal(reason: string): void {
    this.#options.log("warn", `tabs: the leader's lock is taken: ${reason}`);
    this.#pingedAt = 0;
    this.#heardAt = this.#framedAt = Date.now();
    this.#queued?.abort();
    this.#queued = undefined;
    this.#hold({ steal: true });
  }

  #want(): void {
    if (this.#present) this.#say({ type: "want", topics: [...this.#events.wants()] });
  }

  #say(body: TabMessage["body"]): void {
    this.#post({ from: this.#id, follows: this.#follows, body });
  }

  #post(message: Message): void {
    if (!this.#closed) this.#channel.postMessage(message);
  }

  #broken(error: unknown): void {
    if (this.#closed) return;
    this.#options.log("warn", "tabs: no locks, this tab has a stream of its own", { error });
    this.#options.exile();
  }
}

function tabLock(name: string, tab: string): string {
  return `${name} tab ${tab}`;
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function closed(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
