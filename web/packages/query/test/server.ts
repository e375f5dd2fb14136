import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { parseRevision, type Revision } from "../src/revision.js";

/** Revision n of an epoch. */
export function rev(n: number, epoch = 1): Revision {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return parseRevision(`${hex(epoch, 8)}-${hex(n, 16)}`)!;
}

/** A first-in, first-out list that can be waited for. */
export class Queue<T> {
  readonly all: T[] = [];
  #taken = 0;
  #wake: (() => void) | undefined;

  push = (item: T): void => {
    this.all.push(item);
    this.#wake?.();
  };

  async next(): Promise<T> {
    while (this.#taken >= this.all.length) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.all[this.#taken++]!;
  }

  /** How many have come that nobody took. */
  get left(): number {
    return this.all.length - this.#taken;
  }
}

/** One request for the stream, answered by the test. */
export class StreamRequest {
  readonly gone: Promise<void>;
  #begun = false;

  constructor(
    readonly request: IncomingMessage,
    readonly body: Record<string, unknown> | undefined,
    readonly response: ServerResponse,
  ) {
    this.gone = new Promise((resolve) => response.on("close", () => resolve()));
  }

  get query(): URLSearchParams {
    return new URL(this.request.url!, "http://localhost").searchParams;
  }

  get topics(): string[] {
    return (this.body?.["topics"] as string[] | undefined) ?? this.query.getAll("topic");
  }

  get lastEventId(): string | undefined {
    return this.request.headers["last-event-id"] as string | undefined;
  }

  /** Where the topic is caught up from; "" when it isn't. */
  since(topic: string): string {
    const byTopic = this.body?.["since_by_topic"] as Record<string, string> | undefined;
    return byTopic?.[topic] ?? (this.body?.["since"] as string | undefined) ?? this.lastEventId ?? "";
  }

  write(text: string): void {
    if (!this.#begun) {
      this.response.writeHead(200, { "content-type": "text/event-stream" });
      this.#begun = true;
    }
    this.response.write(text);
  }

  send(event: string, data: unknown, id?: Revision): void {
    this.write(`${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  ready(revision: Revision, heartbeatMs = 15_000): void {
    this.send(
      "ready",
      { revision, topics: this.topics.length, heartbeat_ms: heartbeatMs, contract: "c" },
      revision,
    );
  }

  invalidate(revision: Revision, topics: string[], spreadMs = 0): void {
    this.send("invalidate", { revision, topics, spread_ms: spreadMs }, revision);
  }

  refuse(status: number, body: unknown = {}, headers: Record<string, string> = {}): void {
    this.response.writeHead(status, { "content-type": "application/json", ...headers });
    this.response.end(JSON.stringify(body));
  }

  end(): void {
    this.response.end();
  }
}

/** A server of the stream, over real HTTP, whose answers the test writes. */
export class StreamServer {
  readonly requests = new Queue<StreamRequest>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        const body = text ? (JSON.parse(text) as Record<string, unknown>) : undefined;
        this.requests.push(new StreamRequest(request, body, response));
      });
    });
  }

  static async start(): Promise<StreamServer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new StreamServer(server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/events`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
