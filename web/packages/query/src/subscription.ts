import type { SubscribeOptions } from "./client-options.js";
import type { Invalidation, Subscriber } from "./ledger.js";
import type { Revision } from "./revision.js";
import type { Freshness } from "./status.js";

/** @internal */
export interface Owner {
  changed(): void;
  closed(): void;
  freshness(topics: ReadonlySet<string>): Freshness;
  caughtUp(topic: string): boolean;
}

/** One subscriber's part of the stream. Made by `Freshet.subscribe`. */
export class Subscription implements Subscriber {
  readonly #options: SubscribeOptions;
  readonly #owner: Owner;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #topics: ReadonlySet<string>;
  #closed = false;

  /** @internal */
  constructor(options: SubscribeOptions, owner: Owner) {
    this.#options = options;
    this.#owner = owner;
    this.#topics = new Set(options.topics);
  }

  get topics(): ReadonlySet<string> {
    return this.#topics;
  }

  /** How well its topics are followed. `Freshet.onStatus` says when to look again. */
  get freshness(): Freshness {
    return this.#closed ? "offline" : this.#owner.freshness(this.#topics);
  }

  /** Whether all that changed under the topic since its `since`, or `ready`, has been told. */
  caughtUp(topic: string): boolean {
    return this.#owner.caughtUp(topic);
  }

  /** Replaces the topics. Those that stay lose no notice on the way. */
  setTopics(topics: Iterable<string>): void {
    if (this.#closed) return;
    this.#topics = new Set(topics);
    this.#owner.changed();
  }

  /** Ends the subscription; nothing is called afterwards. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#owner.closed();
  }

  /** @internal */
  since(topic: string): Revision | undefined {
    return this.#options.since?.(topic);
  }

  /** @internal */
  tell(invalidation: Invalidation, spreadMs: number): void {
    if (spreadMs <= 0) {
      this.#call(invalidation);
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#call(invalidation);
    }, Math.random() * spreadMs);
    this.#timers.add(timer);
  }

  #call(invalidation: Invalidation): void {
    if (this.#closed) return;
    if (invalidation.cause === "reset") guarded(() => this.#options.onReset?.(invalidation));
    guarded(() => this.#options.onInvalidate(invalidation));
  }
}

/**
 * Calls a listener. Its mistake must not cost the others their notice, nor the
 * stream its connection: it surfaces as any uncaught error does.
 * @internal
 */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
