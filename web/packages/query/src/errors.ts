/** The server answered, and did not begin a stream. */
export class StreamRefusedError extends Error {
  override readonly name = "StreamRefusedError";
  constructor(
    /** HTTP status. */
    readonly status: number,
    /** Connect's code from the body (`invalid_argument`, …); "" when there is none. */
    readonly code: string,
    message: string,
    /** From Retry-After; undefined when the server didn't say. */
    readonly retryAfterMs?: number,
    /** Those at fault, if the server says so: without them there would be a stream. */
    readonly topics: readonly string[] = [],
  ) {
    super(message);
  }

  /**
   * Asking again in the same way brings the same answer (bad topic, no token,
   * no grant, too many topics): the stream stays closed until topics change or
   * `Freshet.retry()` is called. With the `token` option a 401 isn't final. 408, 425, 429 and 5xx pass by themselves.
   */
  get fatal(): boolean {
    return this.status >= 400 && this.status < 500 && ![408, 425, 429].includes(this.status);
  }
}

/** What came is not the protocol: a proxy's page, a broken frame. Retried. */
export class StreamProtocolError extends Error {
  override readonly name = "StreamProtocolError";
}

/** Nothing came for 2.5 heartbeats: a dead peer that no one told us of. Retried. */
export class StreamSilentError extends Error {
  override readonly name = "StreamSilentError";
  constructor(readonly silentMs: number) {
    super(`no byte for ${silentMs} ms`);
  }
}

/** The network failed, or the server closed the stream mid-way. Retried. */
export class StreamLostError extends Error {
  override readonly name = "StreamLostError";
}

/**
 * The server ended the stream for its caller: the credential has `expired`, or a
 * grant was withdrawn (`denied`). Goes on with a fresh token; a denial is
 * retried once, to be refused or admitted.
 */
export class StreamEndedError extends Error {
  override readonly name = "StreamEndedError";
  constructor(
    /** `expired` or `denied`; later versions may add some. */
    readonly reason: string,
  ) {
    super(`the server ended the stream: ${reason || "no reason was given"}`);
  }
}

/** The `token` option's source failed; `cause` is what it said. It is asked again with back-off. */
export class TokenSourceError extends Error {
  override readonly name = "TokenSourceError";
  constructor(cause: unknown) {
    // What the cause says may hold anything, tokens too: it isn't repeated here.
    super("the token could not be had", { cause });
  }
}

/** The account that this was asked for has been left: it is neither sent nor shown. */
export class AccountChangedError extends Error {
  override readonly name = "AccountChangedError";
  constructor() {
    super("another account, or none, is signed in now");
  }
}

export type StreamError =
  | StreamEndedError
  | StreamRefusedError
  | StreamProtocolError
  | StreamSilentError
  | StreamLostError;
