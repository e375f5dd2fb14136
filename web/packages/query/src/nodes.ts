/**
 * The addresses of identical nodes, in an order of this client's own: the clients of
 * a node that fails are to spread over all others. The stream and what is sent by
 * `Freshet.fetch` go to the same node until that fails.
 */
export class Nodes {
  readonly #urls: readonly string[];
  #current = 0;

  constructor(urls: string | readonly string[]) {
    const list = typeof urls === "string" ? [urls] : [...urls];
    if (list.length === 0) throw new RangeError("url: an empty list of addresses");
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [list[i], list[j]] = [list[j]!, list[i]!];
    }
    this.#urls = list;
  }

  get count(): number {
    return this.#urls.length;
  }

  /** Names the node that is used, as `url` and `failed` take it. */
  get current(): number {
    return this.#current;
  }

  /** The stream's address at a node. */
  url(node: number): string {
    return this.#urls[node % this.#urls.length]!;
  }

  /** A node can't be used; whoever hears of it first moves all on to the next. */
  failed(node: number): void {
    if (node === this.#current) this.#current++;
  }

  /** Whether an address is one of a node's origin. */
  has(url: string): boolean {
    const origin = originOf(url);
    return origin !== undefined && this.#urls.some((node) => originOf(node) === origin);
  }

  /** One name for the set, whatever its order. */
  get name(): string {
    const base = globalThis.location?.href;
    return this.#urls.map((url) => (base ? new URL(url, base).href : url)).sort().join(" ");
  }

  /**
   * Sends what goes to a node's origin to the node that is used. If that can't be
   * reached, what only reads (GET, HEAD) goes to the next at once; of anything else
   * nobody knows whether it was done, so its error is the caller's, and what is sent
   * afterwards goes to the next.
   */
  async send(input: RequestInfo | URL, init: RequestInit | undefined, fetch: typeof globalThis.fetch): Promise<Response> {
    const request = typeof input === "object" && "method" in input ? input : undefined;
    const url = request?.url ?? String(input);
    if (this.count === 1 || !this.has(url)) return fetch(input, init);
    const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
    const signal = init?.signal ?? request?.signal;
    const sent = request ? { ...(await initOf(request)), ...init } : init;
    for (let tried = 1; ; tried++) {
      const node = this.#current;
      const target = new URL(url, globalThis.location?.href);
      const { protocol, host } = new URL(this.url(node), globalThis.location?.href);
      target.protocol = protocol;
      target.host = host;
      try {
        return await fetch(target.href, sent);
      } catch (error) {
        if (signal?.aborted) throw error;
        this.failed(node);
        if (tried >= this.count || (method !== "GET" && method !== "HEAD")) throw error;
      }
    }
  }
}

/** A Request names its address for good; its body is read, so that it can be sent again. */
async function initOf(request: Request): Promise<RequestInit> {
  const { method, headers, signal, credentials, cache, redirect } = request;
  const init: RequestInit = { method, headers, signal, credentials, cache, redirect };
  if (request.body) init.body = await request.arrayBuffer();
  return init;
}

function originOf(url: string): string | undefined {
  try {
    return new URL(url, globalThis.location?.href).origin;
  } catch {
    return undefined;
  }
}
