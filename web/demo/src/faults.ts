/** How long answers are held up. `shuffled` lets a later one overtake an earlier one. */
export type Delay = "none" | "slow" | "shuffled";

type Fetch = typeof globalThis.fetch;

/** Time enough to write something by psql meanwhile. */
export const cutMs = 30_000;
const slowMs = 400;
const shuffledMs = 2000;

/**
 * What the inspector's buttons break: the stream of all tabs, for a while, and
 * the time that answers take in this one. Outside of the library, in the way of
 * its requests, where a network would break them.
 */
export class Faults {
  readonly #inner: Fetch;
  readonly #listeners = new Set<() => void>();
  readonly #mended = new Set<() => void>();
  // The tab that holds the stream is not always the one whose button was pressed.
  readonly #channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel("freshet-demo-cut");
  readonly #streams = new Set<AbortController>();
  #cutUntil = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delay: Delay = "none";

  constructor(inner: Fetch) {
    this.#inner = inner;
    this.#channel?.addEventListener("message", ({ data }) => this.#cut(Number(data)));
  }

  /** When the stream comes back, as `Date.now()`; 0: it is not cut. */
  get cutUntil(): number {
    return this.#cutUntil;
  }

  get delay(): Delay {
    return this.#delay;
  }

  setDelay(delay: Delay): void {
    this.#delay = delay;
    this.#changed();
  }

  /** Cuts the stream of all tabs, so that it stays away for a while; 0 mends it. */
  cut(forMs = cutMs): void {
    const until = forMs > 0 ? Date.now() + forMs : 0;
    this.#channel?.postMessage(until);
    this.#cut(until);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onMended(listener: () => void): void {
    this.#mended.add(listener);
  }

  readonly fetch: Fetch = async (input, init) => {
    if (isStream(input)) return this.#stream(input, init);
    const response = await this.#inner(input, init);
    const ms = this.#delay === "none" ? 0 : this.#delay === "slow" ? slowMs : Math.random() * shuffledMs;
    await pause(ms, init?.signal);
    return response;
  };

  async #stream(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    if (this.#cutUntil > 0) throw new TypeError("the inspector has cut the stream");
    const own = new AbortController();
    this.#streams.add(own);
    const { signal } = init ?? {};
    const forget = () => this.#streams.delete(own);
    signal?.addEventListener("abort", forget, { once: true });
    own.signal.addEventListener("abort", forget, { once: true });
    return this.#inner(input, { ...init, signal: signal ? AbortSignal.any([signal, own.signal]) : own.signal });
  }

  #cut(until: number): void {
    clearTimeout(this.#timer);
    this.#cutUntil = until;
    if (until > 0) {
      for (const stream of this.#streams) stream.abort(new TypeError("the inspector has cut the stream"));
      this.#timer = setTimeout(() => this.#cut(0), until - Date.now());
    } else {
      for (const listener of this.#mended) listener();
    }
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function isStream(input: RequestInfo | URL): boolean {
  const url = input instanceof Request ? input.url : String(input);
  return new URL(url, window.location.href).pathname === "/events";
}

/** Ends early, and quietly, when the request is called off: its owner knows. */
function pause(ms: number, signal?: AbortSignal | null): Promise<void> {
  if (ms <= 0 || signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
