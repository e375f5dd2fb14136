import { createParser } from "eventsource-parser";
import {
  StreamEndedError,
  StreamLostError,
  StreamProtocolError,
  StreamRefusedError,
  StreamSilentError,
} from "./errors.js";
import { defaultHeartbeatMs } from "./feed.js";
import { decodeFrame, type Frame } from "./frame.js";
import { retryAfter } from "./retry-after.js";
import type { Revision } from "./revision.js";

/** What to follow, and from where. */
export interface ConnectionRequest {
  readonly url: string;
  readonly topics: ReadonlySet<string>;
  /** Topics that are caught up, and from where; the others begin with `ready`. */
  readonly since: ReadonlyMap<string, Revision>;
  readonly throttleMs?: number | undefined;
  readonly headers: () => HeadersInit | Promise<HeadersInit>;
  readonly fetch: typeof globalThis.fetch;
}

export interface ConnectionHandlers {
  frame(frame: Frame): void;
  /** The server's `retry:`, in milliseconds. */
  retry(ms: number): void;
}

/** A frame is at most 32 KiB by protocol; far above, it is no frame. */
const maxFrameChars = 1 << 20;
/** What proxies and servers take in a request line without complaint. */
const maxUrlChars = 4000;

/**
 * One attempt at the stream, by fetch and not by EventSource: that one sends no
 * Authorization header, and a single 503 closes it for good.
 */
export class Connection {
  readonly #abort = new AbortController();
  readonly #request: ConnectionRequest;
  readonly #handlers: ConnectionHandlers;
  #silenceMs = 2.5 * defaultHeartbeatMs;
  #heardAt = 0;
  #watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(request: ConnectionRequest, handlers: ConnectionHandlers) {
    this.#request = request;
    this.#handlers = handlers;
  }

  /** Ends the attempt; `run` then settles, and no handler is called any more. */
  close(): void {
    this.#abort.abort(new StreamLostError("closed"));
  }

  /**
   * Cuts a stream that has been silent for too long. The watchdog does so by
   * itself, but not while the machine or the tab is suspended.
   */
  checkSilence(): void {
    if (this.#heardAt > 0 && Date.now() - this.#heardAt >= this.#silenceMs) this.#cut();
  }

  /** Follows the stream to its end: returns when the server closed it cleanly. */
  async run(): Promise<void> {
    const { signal } = this.#abort;
    this.#heard();
    try {
      const response = await this.#open(signal);
      await this.#read(response, signal);
    } catch (error) {
      // The reason of our own abort says more than fetch's AbortError.
      const cause: unknown = signal.aborted ? signal.reason : error;
      if (cause instanceof Error && isStreamError(cause)) throw cause;
      throw new StreamLostError(cause instanceof Error ? cause.message : String(cause));
    } finally {
      clearTimeout(this.#watchdog);
      this.#abort.abort(new StreamLostError("closed")); // a body that was not read to its end
    }
  }

  async #open(signal: AbortSignal): Promise<Response> {
    const request = this.#request;
    const headers = new Headers(await request.headers());
    headers.set("accept", "text/event-stream");
    const init: RequestInit = { headers, signal, cache: "no-store", credentials: "same-origin" };
    const since = commonSince(request);
    let url = getUrl(request);
    if (since === "mixed" || url.length > maxUrlChars) {
      // Topics with different pasts, or too many for a URL.
      headers.set("content-type", "application/json");
      init.method = "POST";
      init.body = postBody(request, since);
      url = withQuery(request.url, throttleQuery(request));
    } else if (since) {
      headers.set("last-event-id", since);
    }
    const response = await request.fetch(url, init);
    if (!response.ok) throw await refusal(response);
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("text/event-stream") || !response.body) {
      throw new StreamProtocolError(`status ${response.status}, content type ${type || "none"}`);
    }
    return response;
  }

  async #read(response: Response, signal: AbortSignal): Promise<void> {
    const parser = createParser({
      maxBufferSize: maxFrameChars,
      onRetry: (ms) => this.#handlers.retry(ms),
      onError: (error) => {
        if (error.type === "max-buffer-size-exceeded") throw new StreamProtocolError(error.message);
      },
      onEvent: (message) => {
        if (signal.aborted) return; // closed by a handler, in the middle of a chunk
        const frame = decodeFrame(message);
        if (!frame) return;
        if (frame.type === "ready" && frame.heartbeatMs > 0) {
          this.#silenceMs = 2.5 * frame.heartbeatMs;
          this.#heard();
        }
        this.#handlers.frame(frame);
      },
    });
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) throw signal.reason;
      if (done) return;
      this.#heard();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  }

  #heard(): void {
    this.#heardAt = Date.now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#cut(), this.#silenceMs);
  }

  #cut(): void {
    this.#abort.abort(new StreamSilentError(Date.now() - this.#heardAt));
  }
}

function isStreamError(error: Error): boolean {
  return (
    error instanceof StreamEndedError ||
    error instanceof StreamRefusedError ||
    error instanceof StreamProtocolError ||
    error instanceof StreamSilentError ||
    error instanceof StreamLostError
  );
}

function getUrl(request: ConnectionRequest): string {
  const query = throttleQuery(request);
  for (const topic of request.topics) query.append("topic", topic);
  return withQuery(request.url, query);
}

/** The server takes it in the query only, also of a POST. */
function throttleQuery({ throttleMs }: ConnectionRequest): URLSearchParams {
  return new URLSearchParams(throttleMs === undefined ? {} : { throttle: String(throttleMs) });
}

function withQuery(url: string, query: URLSearchParams): string {
  const text = query.toString();
  return text ? url + (url.includes("?") ? "&" : "?") + text : url;
}

/** The since that all topics have; undefined: none has one. */
function commonSince({ topics, since }: ConnectionRequest): Revision | "mixed" | undefined {
  const distinct = new Set([...topics].map((topic) => since.get(topic)));
  if (distinct.size > 1) return "mixed";
  return distinct.values().next().value;
}

function postBody(request: ConnectionRequest, since: Revision | "mixed" | undefined): string {
  const topics = [...request.topics];
  if (since !== "mixed") return JSON.stringify({ topics, since });
  return JSON.stringify({ topics, since_by_topic: Object.fromEntries(request.since) });
}

async function refusal(response: Response): Promise<StreamRefusedError> {
  const text = await response.text().catch(() => "");
  let code = "";
  let topics: string[] = [];
  let message = `the stream was refused with status ${response.status}`;
  try {
    const body = JSON.parse(text) as { code?: unknown; message?: unknown; topics?: unknown };
    if (typeof body.code === "string") code = body.code;
    if (typeof body.message === "string") message = body.message;
    if (Array.isArray(body.topics)) topics = body.topics.filter((topic) => typeof topic === "string");
  } catch {
    // Not ours, a proxy's page: the status says enough.
  }
  return new StreamRefusedError(
    response.status,
    code,
    message,
    retryAfter(response.headers.get("retry-after")),
    topics,
  );
}
