import { AccountChangedError, TokenSourceError } from "./errors.js";
import type { Logger } from "./logger.js";

/** A bearer token. `expires`: when it does, if that isn't in it (the `exp` of a JWT). */
export type Token = string | { readonly token: string; readonly expires?: Date | undefined };

/**
 * Where tokens come from; undefined: nobody is signed in. It is asked when there
 * is none, and with `refresh` when the last one is about to expire or was
 * refused: get a new one then, not a kept one. The signal is aborted when the
 * account is left, or no answer has come for 30 s.
 */
export type TokenSource = (
  refresh: boolean,
  signal: AbortSignal,
) => Token | undefined | Promise<Token | undefined>;

export interface TokensOptions {
  readonly source: TokenSource;
  readonly retryMs: number;
  readonly maxRetryMs: number;
  readonly log: Logger;
  /** There is another token of the same account, or one again. */
  readonly renewed: () => void;
  /** The source has a token of another account, or none any more. */
  readonly left: () => void;
  /** `error` is another one, or gone. */
  readonly changed: () => void;
}

interface Held {
  readonly token: string | undefined;
  /** Whose it is; "" is nobody, undefined not known. */
  readonly account: string | undefined;
  /** By this browser's clock; undefined: not known. */
  expiresAt: number | undefined;
  refused: boolean;
}

const patienceMs = 30_000;
/** The least wait before a source is asked that had no other token yet. */
const leastMs = 500;
const maxMarginMs = 5 * 60_000;
const maxDelayMs = 2 ** 31 - 1;

/**
 * The caller's token. Kept in memory and nowhere else, and renewed a fifth to a
 * tenth of its life before it expires, at random: a thousand tabs that were
 * opened together don't renew together. A source that fails is asked again with
 * back-off; meanwhile the token counts for as long as it does.
 */
export class Tokens {
  readonly #options: TokensOptions;
  #held: Held | undefined;
  #asking: { readonly answer: Promise<Held>; readonly abort: AbortController } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failing = false; // and the timer is about asking again
  #failures = 0;
  #error: unknown;
  #refreshedAt = -Infinity;
  #closed = false;

  constructor(options: TokensOptions) {
    this.#options = options;
  }

  /** Why there is no fresh token, as the source said it. */
  get error(): unknown {
    return this.#error;
  }

  /** What to send now. Throws a TokenSourceError while it can't be had. */
  async get(): Promise<string | undefined> {
    return (await this.#get()).token;
  }

  /** Issuer and subject; "": nobody is signed in. Undefined: the token doesn't say. */
  async account(): Promise<string | undefined> {
    return (await this.#get()).account;
  }

  /**
   * The server refuses this token. Whether it is worth trying again at once, with
   * what `get` brings; not if it is a fresh one that was refused.
   */
  refuse(token: string | undefined): boolean {
    const held = this.#held;
    if (held && held.token !== token) return true;
    if (held) held.refused = true;
    return !this.#refreshedLately;
  }

  /** The server counts this token for so long from now: its clock is the one that matters. */
  counts(token: string | undefined, forMs: number): void {
    const held = this.#held;
    if (token === undefined || held?.token !== token || held.refused) return;
    const at = Date.now() + forMs;
    if (held.expiresAt !== undefined && held.expiresAt <= at) return;
    held.expiresAt = at;
    if (!this.#failing) this.#plan(forMs);
  }

  /** Gets a fresh one now. What comes of it is told. */
  renew(): void {
    void this.#ask(true).catch(() => {}); // in `error`
  }

  /** The source may be asked at once again. */
  retry(): void {
    this.#refreshedAt = -Infinity;
    if (this.#failing) this.#stop();
  }

  /** The account is left: its token, and the one under way, are not sent any more. */
  forget(): void {
    this.#stop();
    this.#asking?.abort.abort();
    this.#asking = this.#held = this.#error = undefined;
    this.#failures = 0;
    this.#refreshedAt = -Infinity;
  }

  /** Nothing is renewed from now on; what is asked for is got. */
  close(): void {
    this.#closed = true;
    this.#stop();
  }

  async #get(): Promise<Held> {
    const held = this.#held;
    const over = held && (held.refused || (held.expiresAt !== undefined && held.expiresAt <= Date.now()));
    if (held && (!over || this.#refreshedLately)) return held;
    if (this.#failing) throw new TokenSourceError(this.#error);
    return this.#ask(held !== undefined);
  }

  /** Bounds how often refusals, and clocks that are wrong, have the source asked. */
  get #refreshedLately(): boolean {
    return !this.#asking && Date.now() - this.#refreshedAt < this.#options.retryMs;
  }

  #ask(refresh: boolean): Promise<Held> {
    if (this.#asking) return this.#asking.answer;
    this.#stop();
    const abort = new AbortController();
    const answer = this.#answer(refresh, abort);
    this.#asking = { answer, abort };
    return answer;
  }

  async #answer(refresh: boolean, abort: AbortController): Promise<Held> {
    const { source } = this.#options;
    try {
      const answer = await inTime(abort, async () => source(refresh, abort.signal));
      if (this.#asking?.abort !== abort) throw new AccountChangedError();
      this.#asking = undefined;
      if (refresh) this.#refreshedAt = Date.now();
      return this.#take(answer);
    } catch (error) {
      if (error instanceof AccountChangedError) throw error;
      if (this.#asking?.abort !== abort) throw new AccountChangedError();
      this.#asking = undefined;
      this.#failed(error);
      throw new TokenSourceError(error);
    }
  }

  #take(answer: Token | undefined): Held {
    const before = this.#held;
    const failed = this.#error !== undefined;
    const { token, expires } = typeof answer === "object" ? answer : { token: answer };
    const { exp, account } = read(token);
    const expiresAt = expires?.getTime() ?? exp ?? NaN;
    const left = expiresAt - Date.now();
    // What is over on arrival is so by a clock that is wrong, perhaps: the server says.
    const held: Held = { token, account, expiresAt: left > 0 ? expiresAt : undefined, refused: false };
    this.#held = held;
    this.#error = undefined;
    this.#failures = 0;
    const another = before?.token !== token;
    if (left > 0) this.#plan(another ? left : left / 2);
    if (failed) this.#options.changed();
    if (before && before.account !== account) {
      this.#options.log("info", "tokens: the source has one of another account");
      this.#options.left();
      throw new AccountChangedError(); // who asked, asked for the one before
    }
    if ((before || failed) && (another || before?.refused)) this.#options.renewed();
    return held;
  }

  #failed(error: unknown): void {
    const { retryMs, maxRetryMs, log } = this.#options;
    this.#error = error ?? new Error("no reason was given");
    this.#failures++;
    const delay = Math.min(retryMs * 2 ** Math.min(this.#failures - 1, 20), maxRetryMs);
    const wait = delay * (1 + Math.random() / 2);
    // Without what the source said: who knows what is in there.
    log("warn", "tokens: the source failed", { waitMs: Math.round(wait) });
    if (!this.#closed) {
      this.#failing = true;
      this.#timer = setTimeout(() => {
        this.#failing = false;
        this.renew();
      }, wait);
    }
    this.#options.changed();
  }

  /** Sets out to renew what counts for so long yet. */
  #plan(left: number): void {
    this.#stop();
    if (this.#closed) return;
    const margin = Math.min(left / 5, maxMarginMs);
    const wait = Math.max(left - margin + (Math.random() * margin) / 2, leastMs);
    this.#timer = setTimeout(() => this.renew(), Math.min(wait, maxDelayMs));
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#failing = false;
  }
}

function inTime<T>(abort: AbortController, get: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => abort.abort(new Error(`no token within ${patienceMs} ms`)), patienceMs);
    abort.signal.addEventListener("abort", () => reject(abort.signal.reason), { once: true });
    void get()
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}

/** What a JWT (RFC 7519) says of itself. Not proven here: the server does. */
function read(token: string | undefined): { account: string | undefined; exp?: number } {
  if (!token) return { account: "" };
  try {
    const payload = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<"iss" | "sub" | "exp", unknown>;
    const exp = typeof claims.exp === "number" ? { exp: claims.exp * 1000 } : {};
    const known = typeof claims.sub === "string" && claims.sub !== "";
    return { account: known ? JSON.stringify([claims.iss ?? null, claims.sub]) : undefined, ...exp };
  } catch {
    return { account: undefined };
  }
}
