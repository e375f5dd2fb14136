import { Caller } from "../src/caller.js";
import type { Freshet, SubscribeOptions } from "../src/client.js";
import { Era } from "../src/era.js";
import type { Frame } from "../src/frame.js";
import type { Invalidation } from "../src/ledger.js";
import type { QueriesOptions } from "../src/queries-options.js";
import { laterOf, type Revision } from "../src/revision.js";

type Source = QueriesOptions["freshet"] & Pick<Freshet, "observe" | "wrote" | "caller">;

/**
 * The stream as the binding sees it, told by the test and without delay: what a
 * notice meets is then the test's choice, not that of timers.
 */
export class FakeSource implements Source {
  topics: ReadonlySet<string> = new Set();
  atLeast: Revision | undefined;
  status: Freshet["status"] = { state: "connecting", freshness: "catching up", lagMs: 0 };
  readonly observed: Revision[] = [];
  readonly warnings: string[] = [];
  readonly caller = new Caller();
  /** Topics that need no `ready`, since the subscription said from where on. */
  readonly caughtUp = new Set<string>();
  /** Called when the topics were set. */
  onTopics: (topics: ReadonlySet<string>) => void = () => {};
  #options: SubscribeOptions | undefined;
  readonly #statusListeners = new Set<() => void>();
  readonly #listeners = new Set<(frame: Frame) => void>();
  readonly #resetListeners = new Set<(revision: Revision) => void>();
  readonly #accountListeners = new Set<() => void>();
  readonly #renewedListeners = new Set<() => void>();
  readonly #era = new Era();

  subscribe(options: SubscribeOptions): ReturnType<Freshet["subscribe"]> {
    this.#options = options;
    this.#set(options.topics);
    return {
      caughtUp: (topic: string) => this.caughtUp.has(topic),
      setTopics: (topics: Iterable<string>) => this.#set(topics),
      close: () => (this.#options = undefined),
    } as unknown as ReturnType<Freshet["subscribe"]>;
  }

  warn(message: string): void {
    this.warnings.push(message);
  }

  /** Where a stream of the topic is asked to begin. */
  sinceOf(topic: string): Revision | undefined {
    return this.#options?.since?.(topic);
  }

  onFrame(listener: (frame: Frame) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onReset(listener: (revision: Revision) => void): () => void {
    this.#resetListeners.add(listener);
    return () => this.#resetListeners.delete(listener);
  }

  onAccountChange(listener: () => void): () => void {
    this.#accountListeners.add(listener);
    return () => this.#accountListeners.delete(listener);
  }

  onRenewed(listener: () => void): () => void {
    this.#renewedListeners.add(listener);
    return () => this.#renewedListeners.delete(listener);
  }

  /** There is another token. */
  renew(): void {
    for (const listener of this.#renewedListeners) listener();
  }

  /** As `Freshet.changeAccount`; nothing is followed until `ready`. */
  changeAccount(): void {
    this.caller.left();
    this.lose();
    for (const listener of this.#accountListeners) listener();
  }

  isCurrent(stamp: Revision): boolean {
    return this.#era.holds(stamp);
  }

  onStatus(listener: () => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  freshnessOf(): Freshet["status"]["freshness"] {
    return this.status.freshness;
  }

  observe(stamp: Revision): void {
    this.observed.push(stamp);
    if (this.#era.leads(stamp)) this.#begin(stamp);
  }

  wrote(stamp: Revision, topics: Iterable<string>): void {
    this.atLeast &&= laterOf(this.atLeast, stamp);
    this.#tell({ cause: "invalidate", revision: stamp, topics: [...topics] });
  }

  /** The stream is live: all topics, or those given, are followed from here on. */
  ready(revision: Revision, topics: Iterable<string> = this.topics): void {
    this.#live(revision);
    const told = [...topics];
    if (told.length > 0) this.#tell({ cause: "ready", revision, topics: told });
    this.#frame({ type: "ready", id: revision, revision, heartbeatMs: 15_000, expiresMs: 0 });
  }

  invalidate(revision: Revision, ...topics: string[]): void {
    this.#live(revision);
    this.#tell({ cause: "invalidate", revision, topics });
    this.#frame({ type: "invalidate", id: revision, revision, topics, spreadMs: 0 });
  }

  frontier(revision: Revision): void {
    this.#live(revision);
    this.#frame({ type: "frontier", id: revision, revision, lagMs: 0 });
  }

  reset(revision: Revision): void {
    this.atLeast = revision;
    this.status = { state: "live", freshness: "live", lagMs: 0, revision };
    this.#begin(revision);
    this.#frame({ type: "reset", id: revision, revision, reason: "epoch" });
    this.#tell({ cause: "reset", revision, topics: [...this.topics] });
  }

  denied(revision: Revision): void {
    this.lose();
    this.#tell({ cause: "denied", revision, topics: [...this.topics] });
  }

  poll(revision: Revision): void {
    this.#tell({ cause: "poll", revision, topics: [...this.topics] });
  }

  /** The stream is lost; nothing is told from here on. */
  lose(): void {
    this.atLeast = undefined;
    this.status = { ...this.status, state: "waiting", freshness: "offline" };
    for (const listener of this.#statusListeners) listener();
  }

  #begin(revision: Revision): void {
    this.#era.begin(revision);
    for (const listener of this.#resetListeners) listener(revision);
  }

  #live(revision: Revision): void {
    if (this.#era.isLater(revision)) this.#begin(revision);
    this.#era.advance(revision);
    this.atLeast = laterOf(this.atLeast, revision);
    this.status = { state: "live", freshness: "live", lagMs: 0, revision };
  }

  #set(topics: Iterable<string>): void {
    this.topics = new Set(topics);
    this.onTopics(this.topics);
  }

  #tell(invalidation: Invalidation): void {
    const topics = invalidation.topics.filter((topic) => this.topics.has(topic));
    if (topics.length > 0) this.#options?.onInvalidate({ ...invalidation, topics });
  }

  #frame(frame: Frame): void {
    for (const listener of this.#listeners) listener(frame);
  }
}
