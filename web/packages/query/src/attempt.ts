import type { Failure } from "./failure.js";
import { epochOf, laterOf, parseRevision, type Revision } from "./revision.js";
import type { Untold } from "./topics.js";

export const atLeastHeader = "Freshet-At-Least";
export const revisionHeader = "Freshet-Revision";
export const topicsHeader = "Freshet-Topics";
export const principalHeader = "Freshet-Principal";

/** What the run's owner wants to know of its requests. */
export interface AttemptHooks {
  /** A request of the run depends on these topics; `claimed`: and on others for another caller. */
  topics?(topics: readonly string[], claimed: boolean): void;
  /** An answer of the run, which was let through, depends on these; `untold`: on none that its request names. */
  answered?(topics: readonly string[], untold: Untold | undefined): void;
  /** What an answer with this stamp lacks, that was told after it was sent. */
  overtaken?(stamp: Revision | undefined, asked: Revision | undefined): Revision | undefined;
  /** The server doesn't know what a request asked for. */
  unknown?(atLeast: Revision): void;
  /** A request came to its end. */
  progress?(): void;
}

/** A request that failed. */
interface Refusal {
  readonly error: unknown;
  readonly stamp: Revision | undefined;
}

/**
 * What one run of a query function asked for and was answered, from its first
 * request to its end, retries included. The signal of the run joins the two
 * ends that know: the binding, which runs the function, and the transport, which
 * sees the headers.
 */
export class Attempt {
  /** How many requests passed a transport that looks for stamps. */
  requests = 0;
  /** What the last error said, if the server had one. */
  failure: Failure | undefined;
  /** The highest stamp: of several writes, where all of them are in. */
  latest: Revision | undefined;
  readonly #stamps: (Revision | undefined)[] = [];
  #refusals: Refusal[] = [];

  constructor(
    /** What a request that is sent now asks for; undefined: a strong read. */
    readonly atLeast: () => Revision | undefined,
    readonly hooks: AttemptHooks = {},
    /** Of a write, not of a query. */
    readonly writes = false,
  ) {}

  /**
   * The age of the whole is that of its oldest answer. Undefined: one of them
   * has none, or two are of different histories, and so can't be compared. A
   * refusal counts as well: the function may have made an answer of it.
   */
  get stamp(): Revision | undefined {
    const stamps = [...this.#stamps, ...this.#refusals.map(({ stamp }) => stamp)];
    let oldest = stamps[0];
    for (const stamp of stamps) {
      if (!stamp || !oldest || epochOf(stamp) !== epochOf(oldest)) return undefined;
      if (stamp < oldest) oldest = stamp;
    }
    return oldest;
  }

  /** One request was answered; a header that can't be read is no stamp. */
  note(headers: Headers): Revision | undefined {
    const stamp = parseRevision(headers.get(revisionHeader));
    if (stamp) this.latest = laterOf(this.latest, stamp);
    this.#stamps.push(stamp);
    this.hooks.progress?.();
    return stamp;
  }

  /** One request failed with what the function is given to catch. No `failure`: the network's fault. */
  refuse(error: unknown, headers?: Headers, failure?: Failure): void {
    this.#refusals.push({ error, stamp: parseRevision(headers?.get(revisionHeader)) });
    this.failure = failure;
    this.hooks.progress?.();
  }

  /**
   * The run goes on where an error ended it (F58): the request that brought it
   * is sent again and is no part of what is shown. The others are, those of
   * before the error too.
   */
  resume(error: unknown): void {
    const causes = new Set<unknown>();
    for (let cause = error; cause instanceof Error && !causes.has(cause); cause = cause.cause) causes.add(cause);
    this.#refusals = this.#refusals.filter((refusal) => !causes.has(refusal.error));
    this.failure = undefined;
  }
}

const attempts = new WeakMap<AbortSignal, Attempt>();

/** The attempt that a request belongs to, by the signal it is sent with. */
export function attemptOf(signal: AbortSignal | null | undefined): Attempt | undefined {
  return signal ? attempts.get(signal) : undefined;
}

/** One whose signal joins requests to an attempt of its own. */
export function controllerOf(attempt: Attempt): AbortController {
  const controller = new AbortController();
  attempts.set(controller.signal, attempt);
  return controller;
}

/**
 * The context for one run of a query function. Its signal is registered when
 * the function reads it: reading it here would tell TanStack Query that the
 * function can be cancelled. An infinite query's pages share the signal that
 * its own context holds already.
 */
export function watchSignal<C extends { readonly signal: AbortSignal }>(context: C, attempt: Attempt): C {
  if (isInfinite(context)) {
    attempts.set(context.signal, attempt);
    return context;
  }
  const descriptors = Object.getOwnPropertyDescriptors(context) as Record<string, PropertyDescriptor>;
  const get = () => {
    attempts.set(context.signal, attempt);
    return context.signal;
  };
  descriptors["signal"] = { enumerable: true, configurable: true, get };
  return Object.defineProperties({}, descriptors) as C;
}

/** An infinite query's run has its signal as a value, which its pages share. */
export function isInfinite(context: { readonly signal: AbortSignal }): boolean {
  return Object.getOwnPropertyDescriptor(context, "signal")?.value !== undefined;
}

/** `Freshet-Topics`, split at commas, each percent-encoded. What can't be read is left to the stream. */
export function parseTopics(header: string | null): string[] {
  if (!header) return [];
  try {
    return header.split(",").map((topic) => decodeURIComponent(topic.trim()));
  } catch {
    return [];
  }
}
