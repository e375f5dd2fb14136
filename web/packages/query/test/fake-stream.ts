import { rev } from "./server.js";

/** The stream behind the client's own seam: happy-dom has a fetch of its own. */
export class FakeStream {
  readonly url: URL;
  readonly body: unknown;
  #controller!: ReadableStreamDefaultController<Uint8Array>;

  constructor(input: string, init: RequestInit) {
    this.url = new URL(input, "http://localhost");
    this.body = init.body ? JSON.parse(init.body as string) : undefined;
  }

  get topics(): string[] {
    return (this.body as { topics: string[] } | undefined)?.topics ?? this.url.searchParams.getAll("topic");
  }

  open(signal?: AbortSignal | null): Response {
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (this.#controller = c) });
    signal?.addEventListener("abort", () => {
      try {
        this.#controller.error(signal.reason);
      } catch {
        // Ended before.
      }
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  end(): void {
    this.#controller.close();
  }

  async send(event: string, n: number, topics?: string[]): Promise<void> {
    const data = JSON.stringify({ revision: rev(n), topics, heartbeat_ms: 15_000 });
    const frame = `id: ${rev(n)}\nevent: ${event}\ndata: ${data}\n\n`;
    this.#controller.enqueue(new TextEncoder().encode(frame));
    await new Promise((resolve) => setTimeout(resolve)); // let the reader run
  }
}
