import { laterOf, parseRevision, type Revision } from "./revision.js";

export const atLeastHeader = "Freshet-At-Least";
export const revisionHeader = "Freshet-Revision";
export const topicsHeader = "Freshet-Topics";

/** What the run's owner wants to know of its requests. */
export interface AttemptHooks {
  /** A request of the run depends on these topics. */
  topics?(topics: readonly string[]): void;
  /** What an answer with this stamp lacks, that was told after it was sent. */
  overtaken?(stamp: Revision | undefined, asked: Revision | undefined): Revision | undefined;
}

/**
 * What one run of a query function asked for and was answered. The signal of
 * the run joins the two ends that know: the binding, which runs the function,
 * and the transport, which sees the headers.
 */
export class Attempt {
  /** How many requests passed a transport that looks for stamps. */
  requests = 0;
  /** How long the server asked to wait, when it refused. */
  waitMs = 0;
  /** The run ended with an error that answers: `not_found`, not "unavailable". */
  answered = false;
  /** The highest stamp: of several writes, where all of them are in. */
  latest: Revision | undefined;
  #stamp: Revision | undefined;
  #unknown = false;

  constructor(
    /** What a request that is sent now asks for; undefined: a strong read. */
    readonly atLeast: () => Revision | undefined,
    readonly hooks: AttemptHooks = {},
  ) {}

  /** The age of the whole is that of its oldest answer; undefined: unknown. */
  get stamp(): Revision | undefined {
    return this.#unknown ? undefined : this.#stamp;
  }

  /** One request was answered; a header that can't be read is no stamp. */
  note(headers: Headers): Revision | undefined {
    const stamp = parseRevision(headers.get(revisionHeader));
    if (stamp) this.latest = laterOf(this.latest, stamp);
    if (!stamp) this.#unknown = true;
    else if (!this.#stamp || stamp < this.#stamp) this.#stamp = stamp;
    return stamp;
  }
}

const attempts = new WeakMap<AbortSignal, Attempt>();

/** The attempt that a request belongs to, by the signal it is sent with. */
export function attemptOf(signal: AbortSignal | null | undefined): Attempt | undefined {
  return signal ? attempts.get(signal) : undefined;
}

/** A signal that joins requests to an attempt of its own. */
export function signalOf(attempt: Attempt): AbortSignal {
  const { signal } = new AbortController();
  attempts.set(signal, attempt);
  return signal;
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
