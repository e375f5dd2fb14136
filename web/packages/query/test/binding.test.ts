import { Code } from "@connectrpc/connect";
import { createQueryOptions } from "@connectrpc/connect-query";
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Freshet } from "../src/client.js";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { MessageApi, MessageService, parent, topic } from "./message-api.js";
import { rev, StreamServer } from "./server.js";

// The binding on the real stream client, over real HTTP.

let server: StreamServer;
let freshet: Freshet;
let api: MessageApi;
let queryClient: QueryClient;
let queries: Queries;
let observer: QueryObserver;
let seen: string[];

beforeEach(async () => {
  server = await StreamServer.start();
  freshet = new Freshet({ url: server.url, retryMs: 5, resetSpreadMs: 0 });
  api = new MessageApi();
  queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
  seen = [];
});
afterEach(async () => {
  observer.destroy();
  queries.close();
  queryClient.clear();
  freshet.close();
  await server.close();
});

function mount(): void {
  const transport = freshetTransport(freshet, api.transport);
  observer = new QueryObserver(queryClient, createQueryOptions(MessageService.method.listMessages, { parent }, { transport }) as never);
  observer.subscribe(({ data }) => {
    const body = (data as { messages: { body: string }[] } | undefined)?.messages[0]?.body;
    if (body !== undefined && seen.at(-1) !== body) seen.push(body);
  });
}
const shown = (body: string) => vi.waitFor(() => expect(seen.at(-1)).toBe(body));
const report = () => queries.report()[0]!;

test("first fetch, ready above it, a change, a lost stream, a change meanwhile", async () => {
  mount();
  const first = await api.reads.next();
  expect(first.atLeast).toBeNull();
  first.answer("a", rev(10));
  await shown("a");
  const stream = await server.requests.next();
  expect(stream.topics).toEqual([topic]);
  stream.ready(rev(12));
  const second = await api.reads.next();
  expect(second.atLeast).toBe(rev(12));
  second.answer("b", rev(12));
  await shown("b");

  stream.invalidate(rev(13), [topic]);
  (await api.reads.next()).answer("c", rev(13));
  await shown("c");

  stream.end();
  const next = await server.requests.next();
  expect(next.lastEventId).toBe(rev(13));
  next.invalidate(rev(15), [topic]);
  next.ready(rev(15));
  (await api.reads.next()).answer("d", rev(15));
  await shown("d");
  await vi.waitFor(() => expect(report()).toMatchObject({ have: rev(15), fresh: true }));
  expect(api.reads.left).toBe(0);
});

test("heartbeats raise have, so that a since is never old", async () => {
  mount();
  (await api.reads.next()).answer("a", rev(10));
  const stream = await server.requests.next();
  stream.ready(rev(10));
  stream.send("frontier", { revision: rev(50), lag_ms: 0 }, rev(50));
  await vi.waitFor(() => expect(report()).toMatchObject({ have: rev(50), fresh: true }));
  expect(api.reads.left).toBe(0);
});

test("a reset is acted on before its spread is over", async () => {
  mount();
  const first = await api.reads.next();
  const stream = await server.requests.next();
  stream.ready(rev(10));
  await vi.waitFor(() => expect(freshet.status.state).toBe("live"));
  stream.send("reset", { revision: rev(3, 2), reason: "epoch" }, rev(3, 2));
  await vi.waitFor(() => expect(report().need).toBe(rev(3, 2)));
  first.answer("of the past", rev(99));
  (await api.reads.next()).answer("new", rev(3, 2));
  await shown("new");
  expect(seen).toEqual(["new"]);
});

// F77: the server goes back to a database of a lower epoch.
test("a reset of a lower epoch wins, and what is of the other history is dropped", async () => {
  mount();
  (await api.reads.next()).answer("a", rev(10, 2));
  const stream = await server.requests.next();
  stream.ready(rev(10, 2));
  await shown("a");
  void observer.refetch();
  const slow = await api.reads.next();
  stream.send("reset", { revision: rev(3), reason: "epoch" }, rev(3));
  await vi.waitFor(() => expect(report()).toMatchObject({ need: rev(3), have: undefined, fresh: false }));
  slow.answer("of the other", rev(99, 2));
  const read = await api.reads.next();
  expect(read.atLeast).toBe(rev(3));
  read.answer("b", rev(4));
  await shown("b");
  stream.send("frontier", { revision: rev(5), lag_ms: 0 }, rev(5));
  await vi.waitFor(() => expect(report()).toMatchObject({ have: rev(5), fresh: true, freshness: "live" }));
  freshet.wrote(rev(100, 2), [topic]); // on its way when the switch came
  freshet.observe(rev(101, 2));
  stream.invalidate(rev(6), [topic]);
  (await api.reads.next()).answer("c", rev(6));
  await shown("c");
  expect(seen).toEqual(["a", "b", "c"]);
  expect(server.requests.left).toBe(0);
});

test("F77: an answer is of a later history than the stream: the next one begins there, and the server says", async () => {
  mount();
  (await api.reads.next()).answer("a", rev(10));
  const stream = await server.requests.next();
  stream.ready(rev(10));
  await shown("a");
  stream.invalidate(rev(11), [topic]);
  (await api.reads.next()).answer("elsewhere", rev(1, 2));
  await shown("elsewhere");
  stream.send("frontier", { revision: rev(12), lag_ms: 0 }, rev(12));
  const next = await server.requests.next();
  expect(next.lastEventId).toBe(rev(1, 2));
  next.send("reset", { revision: rev(12), reason: "epoch" }, rev(12));
  next.ready(rev(12));
  let read = await api.reads.next();
  if (read.atLeast === rev(1, 2)) {
    // Begun when the answer was taken for the news.
    read.fail(Code.Unavailable);
    read = await api.reads.next();
  }
  expect(read.atLeast).toBe(rev(12));
  read.answer("b", rev(12));
  await shown("b");
  await vi.waitFor(() => expect(report()).toMatchObject({ have: rev(12), fresh: true, freshness: "live" }));
});

// B17.
test("a status listener that throws is its own fault", async () => {
  const thrown: unknown[] = [];
  const uncaught = (error: unknown) => void thrown.push(error);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", uncaught);
  try {
    const states: string[] = [];
    const quiet = freshet.onStatus(() => {
      throw new Error("mine");
    });
    freshet.onStatus(() => states.push(freshet.status.state));
    mount();
    (await api.reads.next()).answer("a", rev(10));
    const stream = await server.requests.next();
    stream.ready(rev(10));
    await vi.waitFor(() => expect(states).toContain("live"));
    stream.send("frontier", { revision: rev(11), lag_ms: 0 }, rev(11));
    await vi.waitFor(() => expect(freshet.status).toMatchObject({ state: "live", revision: rev(11) }));
    expect(server.requests.left).toBe(0);
    expect(thrown).toContainEqual(new Error("mine"));
    quiet(); // what it throws from here on, nobody would catch
  } finally {
    process.off("uncaughtException", uncaught);
    for (const listener of others) process.on("uncaughtException", listener);
  }
});

test("a server that is behind: what is on show is read strongly now and then", async () => {
  freshet.close();
  freshet = new Freshet({ url: server.url, retryMs: 5, pollMs: 10 });
  queries.close();
  queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
  mount();
  (await api.reads.next()).answer("a", rev(10));
  const stream = await server.requests.next();
  stream.ready(rev(10));
  await shown("a");
  stream.send("frontier", { revision: rev(10), lag_ms: 60_000 }, rev(10));
  const poll = await api.reads.next();
  expect(poll.atLeast).toBeNull();
  poll.answer("b", rev(11));
  await shown("b");
});
