import type { Query, QueryFunctionContext } from "@tanstack/query-core";
import { attemptOf, isInfinite, type Attempt } from "./attempt.js";
import type { Revision } from "./revision.js";
import type { Flight, Step } from "./rule-types.js";

/** A fetch of one query, as the persister or the cache's events see it. */
export interface Run {
  readonly flight: Flight;
  /** Its requests; undefined: only its ends are seen. */
  readonly attempt?: Attempt;
  /** What had been told when it began. */
  readonly heard?: Revision;
  /** Topics that its requests depend on. */
  readonly learned?: ReadonlySet<string>;
  /** Topics that its answers depend on, all of them. */
  readonly answered?: ReadonlySet<string>;
  /** What is to be said of its success. */
  outcome: { readonly stamp: Revision | undefined } | "dropped";
  /** What ended it, maybe not for good. */
  error?: unknown;
  timer?: ReturnType<typeof setTimeout>;
}

/** A run that went through our persister. */
export type SeenRun = Run & { readonly attempt: Attempt };

/**
 * The fetches under way, one per query, and how long they have been without an
 * answer: what is never answered would keep its query in flight for good (F79).
 */
export class Runs {
  readonly #runs = new Map<Query, Run>();
  readonly #timeoutMs: number;
  readonly #late: (query: Query, run: Run) => void;

  constructor(timeoutMs: number, late: (query: Query, run: Run) => void) {
    this.#timeoutMs = timeoutMs;
    this.#late = late;
  }

  is(query: Query, run: Run): boolean {
    return this.#runs.get(query) === run;
  }

  begin(query: Query, run: Run): void {
    this.end(query);
    this.#runs.set(query, run);
    this.progress(query, run);
  }

  /** Something was answered, or asked again: the time runs anew. */
  progress(query: Query, run: Run): void {
    this.pause(run);
    if (!this.is(query, run) || !Number.isFinite(this.#timeoutMs)) return;
    // Of an infinite query that passes no wrapper, only the last page is seen.
    const pages = (query.state.data as { pages?: unknown[] } | undefined)?.pages?.length ?? 1;
    const most = run.attempt?.requests ? 1 : Math.max(1, pages);
    run.timer = setTimeout(() => this.#late(query, run), this.#timeoutMs * most);
  }

  /** Nothing is asked for now. */
  pause(run: Run): void {
    clearTimeout(run.timer);
    run.timer = undefined;
  }

  /**
   * An infinite query's function that is retried goes on at the page that failed:
   * it is the same run, which shows the pages of before, too (F58).
   */
  resume(query: Query, context: QueryFunctionContext): SeenRun | undefined {
    const run = this.#runs.get(query);
    const { attempt } = run ?? {};
    if (!run || !attempt || run.error === undefined || !isInfinite(context)) return undefined;
    if (attemptOf(context.signal) !== attempt) return undefined; // another fetch
    attempt.resume(run.error);
    run.error = undefined;
    this.progress(query, run);
    return run as SeenRun;
  }

  /** It ended, or is of no interest any more. */
  end(query: Query): Run | undefined {
    const run = this.#runs.get(query);
    if (run) this.pause(run);
    this.#runs.delete(query);
    return run;
  }

  clear(): void {
    for (const query of this.#runs.keys()) this.end(query);
  }
}

/** What waits for its time, one wait per query. */
export class Pauses {
  readonly #timers = new Map<Query, ReturnType<typeof setTimeout>>();

  begin(query: Query, { leastMs, spreadMs }: NonNullable<Step["pause"]>, over: () => void): void {
    this.end(query);
    this.#timers.set(query, setTimeout(over, leastMs + Math.random() * spreadMs));
  }

  end(query: Query): void {
    clearTimeout(this.#timers.get(query));
    this.#timers.delete(query);
  }

  clear(): void {
    for (const query of this.#timers.keys()) this.end(query);
  }
}
