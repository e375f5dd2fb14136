// @vitest-environment happy-dom
import { createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { createQueryOptions } from "@connectrpc/connect-query";
import { QueryClient, QueryObserver, type QueryClient as Client } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ListMessagesResponseSchema } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import type { Revision } from "../src/revision.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { MessageService, parent, topic } from "./message-api.js";
import { rev } from "./server.js";

/**
 * A server with one row that counts its writes. An answer holds what was true
 * when the request came, and takes `delayMs` to arrive; a replica's holds what
 * was true `lagMs` before, unless the request says that it must not.
 */
class CountingServer {
  count = 0;
  reads = 0;
  delayMs = 60;
  /** Of the next answer only. */
  delayOnce = 0;
  lagMs = 0;
  readonly #history: { readonly ms: number; readonly count: number }[] = [{ ms: -1, count: 0 }];
  onWrite: (revision: Revision) => void = () => {};

  readonly transport = createRouterTransport(({ service }) =>
    service(MessageService, {
      listMessages: async (_request, context: HandlerContext) => {
        this.reads++;
        const delay = this.delayOnce || this.delayMs;
        this.delayOnce = 0;
        const atLeast = context.requestHeader.get("freshet-at-least");
        let seen = this.#seen();
        while (atLeast && rev(seen + 1) < atLeast) {
          await sleep(5);
          seen = this.#seen();
        }
        await sleep(delay);
        context.responseHeader.set("freshet-revision", rev(seen + 1));
        return create(ListMessagesResponseSchema, { messages: [{ body: String(seen) }] });
      },
    }),
  );

  write(): Revision {
    this.count++;
    this.#history.push({ ms: Date.now(), count: this.count });
    const revision = rev(this.count + 1);
    this.onWrite(revision);
    return revision;
  }

  #seen(): number {
    return this.#history.findLast(({ ms }) => ms <= Date.now() - this.lagMs)!.count;
  }
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const list = MessageService.method.listMessages;

let server: CountingServer;
let source: FakeSource;
let queryClient: Client;
let queries: Queries | undefined;
let observer: QueryObserver | undefined;
/** What an observer was given, in order, without repetitions. */
let seen: string[];

beforeEach(() => {
  vi.useFakeTimers();
  server = new CountingServer();
  source = new FakeSource();
  queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  queries = undefined;
  seen = [];
});
afterEach(() => {
  observer?.destroy();
  queries?.close();
  queryClient.clear();
  vi.useRealTimers();
});

type Plain = { readonly cancelRefetch?: boolean };

/** Mounts the query: with Freshet, or invalidated by each notice as in plain TanStack Query. */
function mount(how: "freshet" | Plain): void {
  source.ready(rev(1));
  let { transport } = server;
  if (how === "freshet") {
    queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(MessageService) });
    transport = freshetTransport(source, transport);
    server.onWrite = (revision) => source.invalidate(revision, topic);
  } else {
    server.onWrite = () => void queryClient.invalidateQueries({}, how);
  }
  observer = new QueryObserver(queryClient, createQueryOptions(list, { parent }, { transport }) as never);
  observer.subscribe(({ data }) => {
    const body = (data as { messages: { body: string }[] } | undefined)?.messages[0]?.body;
    if (body !== undefined && seen.at(-1) !== body) seen.push(body);
  });
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

// https://github.com/TanStack/query/issues/8530
describe("an invalidation during the first fetch", () => {
  async function race(how: "freshet" | Plain): Promise<void> {
    server.delayOnce = 200;
    mount(how);
    await pass(80);
    server.write();
    await pass(60_000);
  }

  test("plain: is lost for ever, and the query looks fresh", async () => {
    await race({});
    expect(seen).toEqual(["0"]);
    expect(server.reads).toBe(1);
    expect(observer!.getCurrentResult().isStale).toBe(false);
  });

  test("with Freshet: one more read, and what is old is never seen", async () => {
    await race("freshet");
    expect(seen).toEqual(["1"]);
    expect(server.reads).toBe(2);
  });
});

describe("an invalidation during a refetch", () => {
  async function race(how: "freshet" | Plain): Promise<void> {
    mount(how);
    await pass(100);
    server.delayOnce = 200;
    void observer!.refetch(); // somebody came back to the window
    await pass(80);
    server.write();
    await pass(60_000);
  }

  test("plain, cancelRefetch: false: joins the older read and stays there", async () => {
    await race({ cancelRefetch: false });
    expect(seen).toEqual(["0"]);
    expect(server.reads).toBe(2);
    expect(observer!.getCurrentResult().isStale).toBe(false);
  });

  test("with Freshet: is honoured with one more read", async () => {
    await race("freshet");
    expect(seen).toEqual(["0", "1"]);
    expect(server.reads).toBe(3);
  });
});

describe("a replica that is 150 ms behind", () => {
  async function race(how: "freshet" | Plain): Promise<void> {
    mount(how);
    await pass(300);
    server.lagMs = 150;
    server.write();
    await pass(60_000);
  }

  test("plain: reads the old state and stays there", async () => {
    await race({});
    expect(seen).toEqual(["0"]);
  });

  test("with Freshet: at-least waits", async () => {
    await race("freshet");
    expect(seen).toEqual(["0", "1"]);
    expect(server.reads).toBe(2);
  });
});

// 50 writes a second for 20 s, a notice each, answers that take 60 ms.
describe("a storm of writes", () => {
  async function storm(how: "freshet" | Plain, writes: number): Promise<void> {
    mount(how);
    await pass(100);
    for (let n = 0; n < writes; n++) {
      server.write();
      await pass(20);
    }
    await pass(60_000);
  }

  // A part of the storm shows it.
  test("plain, by default: a read for each write, all of them called off", async () => {
    await storm({}, 100);
    expect(server.reads).toBeGreaterThanOrEqual(100);
    expect(seen).toEqual(["0", "100"]); // nothing for as long as it blows
  });

  test("plain, cancelRefetch: false: ends wrong", async () => {
    await storm({ cancelRefetch: false }, 101);
    expect(seen.at(-1)).not.toBe("101");
  });

  test("with Freshet: never more than one read at a time, shows progress, ends exact", { timeout: 60_000 }, async () => {
    await storm("freshet", 1000);
    expect(seen.at(-1)).toBe("1000");
    expect(server.reads).toBeLessThanOrEqual((1000 * 20) / 60 + 3);
    expect(seen.length).toBeGreaterThan(100);
    const numbers = seen.map(Number);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b)); // G4
    expect(queries!.report()[0]).toMatchObject({ fresh: true, have: rev(1001) });
  });
});
