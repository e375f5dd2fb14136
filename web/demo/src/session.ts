/** Somebody to sign in as. */
export interface Account {
  readonly account: string;
  readonly name: string;
  readonly may: string;
  /** Null: it may read the list of all. */
  readonly conversations: readonly string[] | null;
}

/** What the issuer says of this browser. The token is in a cookie that no script can read. */
interface Answer {
  readonly accounts: readonly Account[];
  /** "": nobody is signed in. */
  readonly account: string;
  readonly expires_in_ms: number;
  readonly life_ms: number;
}

/** Another object whenever something changed. */
export interface SessionState {
  readonly accounts: readonly Account[];
  /** Undefined: nobody is signed in. */
  readonly account: Account | undefined;
  /** When the token expires, as `Date.now()`. */
  readonly expiresAt: number;
  readonly lifeMs: number;
  readonly renewals: number;
  /** Why the issuer's last answer is missing. */
  readonly failed: boolean;
}

type Fetch = typeof globalThis.fetch;

const endedKey = "freshet.ended";
const leastRetryMs = 500;
const mostRetryMs = 5000;

/**
 * Who is signed in, where the server lets one (`serve --demo-auth`). The token is
 * renewed when two thirds of its life are over. Whenever another account, or
 * nobody, is signed in, in this tab or another, the page is loaded anew: so
 * nothing that one account has read, typed or has under way is there for the next.
 */
export class Session {
  readonly #path: string;
  readonly #fetch: Fetch;
  readonly #reload: () => void;
  readonly #listeners = new Set<() => void>();
  readonly #renewed = new Set<() => void>();
  readonly #channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel("freshet-demo-session");
  #timer: ReturnType<typeof setTimeout> | undefined;
  #retryMs = leastRetryMs;
  #state: SessionState = { accounts: [], account: undefined, expiresAt: 0, lifeMs: 0, renewals: 0, failed: false };

  constructor(path: string, fetch: Fetch, reload: () => void) {
    this.#path = path;
    this.#fetch = fetch;
    this.#reload = reload;
    this.#channel?.addEventListener("message", () => void this.look());
  }

  get state(): SessionState {
    return this.#state;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** There is a new token: for the stream, which is of the one before. */
  onRenewed(listener: () => void): void {
    this.#renewed.add(listener);
  }

  /** Asks who is signed in, before there is a page. */
  async open(): Promise<void> {
    try {
      this.#take(await this.#ask("session"));
    } catch {
      this.#set({ failed: true });
    }
  }

  /** Asks again, since somebody may have signed in, or out. */
  async look(): Promise<void> {
    try {
      const answer = await this.#ask("session");
      if (!this.#left(answer)) this.#take(answer);
    } catch {
      // Nothing is known then: what is shown stays, and whoever asks fails by itself.
    }
  }

  async signIn(account: string): Promise<void> {
    await this.#change("sign-in", new URLSearchParams({ account }));
  }

  async signOut(): Promise<void> {
    await this.#change("sign-out");
  }

  /** A new token instead of one that is still good. */
  async renew(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      const answer = await this.#ask("renew", {});
      if (this.#left(answer)) return;
      this.#retryMs = leastRetryMs;
      this.#take(answer, this.#state.renewals + 1);
      for (const listener of this.#renewed) listener();
    } catch (error) {
      if (error instanceof RefusedError && error.status === 401) return this.look();
      this.#set({ failed: true });
      this.#timer = setTimeout(() => void this.renew(), this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, mostRetryMs);
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#channel?.close();
  }

  async #change(what: string, body?: URLSearchParams): Promise<void> {
    await this.#ask(what, { body });
    this.#channel?.postMessage(what);
    clearTimeout(this.#timer);
    this.#reload();
  }

  /** Whether it is of another account than the page; then that is over. */
  #left({ account }: Answer): boolean {
    const own = this.#state.account?.account ?? "";
    if (account === own) return false;
    if (account === "") sessionStorage.setItem(endedKey, "yes");
    clearTimeout(this.#timer);
    this.#reload();
    return true;
  }

  #take({ accounts, account, expires_in_ms, life_ms }: Answer, renewals = this.#state.renewals): void {
    clearTimeout(this.#timer);
    const own = accounts.find((one) => one.account === account);
    const expiresAt = Date.now() + expires_in_ms;
    this.#set({ accounts, account: own, expiresAt, lifeMs: life_ms, renewals, failed: false });
    if (own) this.#timer = setTimeout(() => void this.renew(), Math.max(0, expires_in_ms - life_ms / 3));
  }

  async #ask(what: string, post?: { body?: URLSearchParams | undefined }): Promise<Answer> {
    const method = post ? "POST" : "GET";
    const response = await this.#fetch(this.#path + what, { method, body: post?.body ?? null });
    if (!response.ok) throw new RefusedError(response.status);
    return (await response.json()) as Answer;
  }

  #set(change: Partial<SessionState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

class RefusedError extends Error {
  override readonly name = "RefusedError";
  constructor(readonly status: number) {
    super(`the issuer answered ${status}`);
  }
}

/** Whether the session before this page ended by itself; it is told once. */
export function takeEnded(): boolean {
  const ended = sessionStorage.getItem(endedKey) !== null;
  sessionStorage.removeItem(endedKey);
  return ended;
}

/** Where the issuer is, as the server has written into the page; without, nobody signs in. */
const path = document.querySelector<HTMLMetaElement>('meta[name="freshet-sign-in"]')?.content;

/** Undefined: everybody may everything, and nobody has a name. */
export const session = path
  ? new Session(
      path,
      (input, init) => globalThis.fetch(input, init),
      () => window.location.reload(),
    )
  : undefined;

// Whoever imports this has to know who is signed in before anything is read.
await session?.open();
