import { rev } from "./server.js";
import type { Revision } from "../src/revision.js";

interface Open {
  readonly topics: ReadonlySet<string>;
  send(event: string, data: object, id: Revision): void;
  cut(): void;
  /** Ends it for its caller. */
  end(reason: string): void;
}

/** A server that follows the protocol by itself: catch-up, ready, live. */
export class ModelServer {
  readonly streams = new Set<Open>();
  readonly requests: { topics: string[]; since: Map<string, string>; authorization: string | null }[] = [];
  readonly last = new Map<string, Revision>();
  refuses: ((topics: readonly string[]) => number | undefined) | undefined;
  /** Topics that no row can have: it refuses a stream of them, and names them. */
  readonly untold = new Set<string>();
  heartbeatMs = 15_000;
  #at = 100;

  get at(): Revision {
    return rev(this.#at);
  }

  write(topic: string): Revision {
    const revision = rev(++this.#at);
    this.last.set(topic, revision);
    for (const stream of this.streams) {
      if (stream.topics.has(topic)) stream.send("invalidate", { revision, topics: [topic] }, revision);
    }
    return revision;
  }

  lag(lagMs: number): void {
    for (const stream of this.streams) stream.send("frontier", { revision: this.at, lag_ms: lagMs }, this.at);
  }

  /** Heartbeats, until what is returned is called. */
  beat(everyMs = this.heartbeatMs): () => void {
    const timer = setInterval(() => this.lag(0), everyMs);
    return () => clearInterval(timer);
  }

  cut(): void {
    for (const stream of this.streams) stream.cut();
  }

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    await new Promise((resolve) => setTimeout(resolve)); // the way there
    if (init?.signal?.aborted) throw init.signal.reason;
    const { topics, since } = parse(String(input), init);
    const authorization = new Headers(init?.headers).get("authorization");
    this.requests.push({ topics, since, authorization });
    const status = this.refuses?.(topics);
    if (status) return Response.json({ code: "permission_denied", message: "no" }, { status });
    const named = topics.filter((topic) => this.untold.has(topic));
    if (named.length > 0) return Response.json({ code: "invalid_argument", message: "no row has it", topics: named }, { status: 400 });
    const encoder = new TextEncoder();
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    const open: Open = {
      topics: new Set(topics),
      send: (event, data, id) =>
        controller.enqueue(encoder.encode(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`)),
      cut: () => {
        if (this.streams.delete(open)) controller.close();
      },
      end: (reason) => {
        controller.enqueue(encoder.encode(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`));
        open.cut();
      },
    };
    const body = new ReadableStream<Uint8Array>({
      start: (c) => void (controller = c),
      cancel: () => void this.streams.delete(open),
    });
    init?.signal?.addEventListener("abort", () => {
      if (this.streams.delete(open)) controller.error(init.signal!.reason);
    });
    this.streams.add(open);
    for (const topic of topics) {
      const last = this.last.get(topic);
      const from = since.get(topic);
      if (last && from && from < last) open.send("invalidate", { revision: last, topics: [topic] }, last);
    }
    open.send("ready", { revision: this.at, heartbeat_ms: this.heartbeatMs }, this.at);
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
}

function parse(input: string, init: RequestInit | undefined) {
  const query = new URL(input, "http://localhost").searchParams;
  const body = (init?.body ? JSON.parse(init.body as string) : {}) as {
    topics?: string[];
    since?: string;
    since_by_topic?: Record<string, string>;
  };
  const topics = body.topics ?? query.getAll("topic");
  const common = body.since ?? new Headers(init?.headers).get("last-event-id");
  const since = new Map(Object.entries(body.since_by_topic ?? {}));
  if (common) for (const topic of topics) since.set(topic, common);
  return { topics, since };
}
