/** Answers the page's fetch: the stream and the message service, as the test says. */
export class FakeServer {
  position = 16;
  bodies: string[] = ["first"];
  /** Status of the next reads; 200: an answer. */
  status = 200;
  reads = 0;
  /** Of the list: there is more than it holds. */
  more = false;
  readonly #streams = new Set<ReadableStreamDefaultController<Uint8Array>>();

  get revision(): string {
    return `00000001-${this.position.toString(16).padStart(16, "0")}`;
  }

  readonly fetch = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const { pathname } = new URL(String(input instanceof Request ? input.url : input), "http://localhost");
    if (pathname === "/events") return this.#stream(init?.signal);
    this.reads++;
    const headers = { "content-type": "application/json", "freshet-revision": this.revision, "freshet-cache": "miss" };
    if (this.status !== 200) {
      return new Response(JSON.stringify({ code: "unavailable" }), { status: this.status, headers });
    }
    return new Response(JSON.stringify(this.#answer(pathname)), { headers });
  };

  /** To every stream that is open. */
  send(event: "ready" | "invalidate" | "reset" | "frontier", data: object = {}): void {
    const text = JSON.stringify({ revision: this.revision, heartbeat_ms: 15_000, topics: [], ...data });
    const frame = new TextEncoder().encode(`id: ${this.revision}\nevent: ${event}\ndata: ${text}\n\n`);
    for (const stream of this.#streams) stream.enqueue(frame);
  }

  /** A change that is told. */
  change(...bodies: string[]): void {
    this.position++;
    this.bodies = bodies;
    this.send("invalidate", { topics: ["messages", "conversations/general/messages"] });
  }

  #stream(signal?: AbortSignal | null): Response {
    let own: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        own = controller;
        this.#streams.add(controller);
      },
    });
    signal?.addEventListener("abort", () => {
      if (this.#streams.delete(own)) own.error(signal.reason);
    });
    setTimeout(() => this.send("ready"));
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  #answer(pathname: string): object {
    const name = "conversations/general";
    if (pathname.endsWith("/ListConversations")) return { conversations: [{ name, messageCount: "1" }] };
    if (!pathname.endsWith("/ListMessages")) return {};
    const createTime = new Date(this.position * 1000).toISOString();
    const messages = this.bodies.map((body, n) => ({
      name: `${name}/messages/${n}`,
      author: "ada",
      body,
      etag: `${n}-${body}`,
      createTime,
      updateTime: createTime,
    }));
    return { messages, nextPageToken: this.more ? "more" : "" };
  }
}
