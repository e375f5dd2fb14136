import { AccountChangedError } from "./errors.js";
import type { Nodes } from "./nodes.js";
import type { Tokens } from "./tokens.js";

/**
 * Sends requests as whoever is signed in: with the token, once more with a fresh
 * one if that was refused, and never across a change of account.
 */
export class Caller {
  readonly #tokens: Tokens | undefined;
  readonly #nodes: Nodes | undefined;
  #account = {}; // another object for another account

  constructor(tokens?: Tokens, nodes?: Nodes) {
    this.#tokens = tokens;
    this.#nodes = nodes;
  }

  /** Another account is signed in, or nobody: what is under way is dropped. */
  left(): void {
    this.#account = {};
  }

  /** Whether a request to this address is one to the stream's servers: no other gets the token. */
  knows(url: string): boolean {
    return this.#nodes?.has(url) ?? false;
  }

  /**
   * `refused` says whether what came of it, an answer or an error, is a 401: then
   * nothing was done. An answer to a read is dropped by an AccountChangedError if
   * the account was left meanwhile. An `Authorization` of the caller's own stays.
   */
  async send<R>(
    headers: Headers,
    reads: boolean,
    send: (signed: Headers) => Promise<R>,
    refused: (outcome: unknown) => boolean,
  ): Promise<R> {
    const account = this.#account;
    const tokens = headers.has("authorization") ? undefined : this.#tokens;
    const signed = tokens ? new Headers(headers) : headers;
    for (let repeated = false; ; repeated = true) {
      const token = await tokens?.get();
      if (account !== this.#account) throw new AccountChangedError(); // it would go out as another's
      if (token) signed.set("authorization", `Bearer ${token}`);
      const outcome = await send(signed).then(
        (answer) => ({ answer }),
        (error: unknown) => ({ error }),
      );
      if (reads && account !== this.#account) throw new AccountChangedError();
      const is401 = tokens && refused("error" in outcome ? outcome.error : outcome.answer);
      if (is401 && tokens.refuse(token) && !repeated) continue;
      if ("error" in outcome) throw outcome.error;
      return outcome.answer;
    }
  }
}
