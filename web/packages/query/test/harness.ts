import { Freshet, type FreshetOptions, type Status } from "../src/client.js";
import type { Invalidation } from "../src/ledger.js";
import { Queue, rev, StreamServer, type StreamRequest } from "./server.js";

/** A server, and clients of it that end with it. */
export class Harness {
  readonly server: StreamServer;
  readonly #clients: Freshet[] = [];

  private constructor(server: StreamServer) {
    this.server = server;
  }

  static async start(): Promise<Harness> {
    return new Harness(await StreamServer.start());
  }

  connect(options: FreshetOptions = {}): Freshet {
    const client = new Freshet({
      url: this.server.url,
      retryMs: 5,
      maxRetryMs: 20,
      resetSpreadMs: 0,
      ...options,
    });
    this.#clients.push(client);
    return client;
  }

  async live(client: Freshet, at = rev(10)): Promise<StreamRequest> {
    const request = await this.server.requests.next();
    request.ready(at);
    await until(client, ({ state }) => state === "live");
    return request;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.server.close();
  }
}

/** Subscribes, and collects what is told. */
export function follow(client: Freshet, topics: string[], since?: (topic: string) => ReturnType<typeof rev> | undefined) {
  const told = new Queue<Invalidation>();
  return { told, subscription: client.subscribe({ topics, since, onInvalidate: told.push }) };
}

/** Settles once the status is so; forgetting it would end in a time-out. */
export function until(client: Freshet, holds: (status: Status) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (!holds(client.status)) return;
      stop();
      resolve();
    };
    const stop = client.onStatus(check);
    check();
  });
}

/** A token that says so much of itself; nobody has signed it. */
export const jwt = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
