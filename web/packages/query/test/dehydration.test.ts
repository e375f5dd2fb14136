import { addStaticKeyToTransport, createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, hydrate, notifyManager, type DehydratedState } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { freshetTransport } from "../src/connect.js";
import { Life, list, parents, stamped, topics } from "./life.js";
import { MessageApi } from "./message-api.js";
import { rev, StreamServer, type StreamRequest } from "./server.js";

// A page, and the same page after a reload: what it had is all it has.

let server: StreamServer;
let api: MessageApi;
let life: Life;

beforeEach(async () => {
  server = await StreamServer.start();
  api = new MessageApi();
});
afterEach(async () => {
  life.unload();
  await server.close();
});

/** What a store would keep of a first life. */
const firstLife = async (): Promise<DehydratedState> => (await stamped(server, api)).unload();

async function reload(state: DehydratedState): Promise<StreamRequest> {
  life = new Life(server.url, api, state);
  for (const parent of parents) life.mount(parent);
  return server.requests.next();
}

/** What each topic is asked to begin from. */
function sinceOf(stream: StreamRequest): unknown {
  return stream.body?.["since_by_topic"];
}

test("a page that nothing changed costs no request but the stream", async () => {
  const stream = await reload(await firstLife());
  expect(sinceOf(stream)).toEqual({ [topics[0]!]: rev(11), [topics[1]!]: rev(12), [topics[2]!]: rev(13) });
  stream.ready(rev(20));
  await vi.waitFor(() => expect(life.have()).toEqual([rev(20), rev(20), rev(20)]));
  await life.idle(3);
  expect(server.requests.left).toBe(0);
});

test("a query without data yet does not cost its neighbours their since", async () => {
  life = new Life(server.url, api, await firstLife());
  life.mount(parents[0], 5);
  const stream = await server.requests.next();
  expect(sinceOf(stream)).toMatchObject({ [topics[0]!]: rev(11) });
  (await api.reads.next()).answer("page", rev(20));
});

test("only what changed is read again", async () => {
  const stream = await reload(await firstLife());
  stream.invalidate(rev(18), [topics[1]!]);
  stream.ready(rev(20));
  const read = await api.reads.next();
  expect(read.atLeast).toBe(rev(18));
  read.answer("changed", rev(20));
  await vi.waitFor(() => expect(life.queries.report().every(({ fresh }) => fresh)).toBe(true));
  await life.idle(4);
});

test("what nobody shows is marked, and read when it is mounted", async () => {
  life = new Life(server.url, api, await firstLife());
  const stream = await server.requests.next();
  expect(stream.topics.sort()).toEqual([...topics].sort()); // nothing is mounted yet
  stream.invalidate(rev(18), [topics[0]!, topics[1]!]);
  stream.ready(rev(20));
  await vi.waitFor(() => expect(life.freshet.status.state).toBe("live"));
  await life.idle(3);
  life.mount(parents[0]);
  life.mount(parents[2]);
  (await api.reads.next()).answer("changed", rev(20));
  await life.idle(4);
});

test("another history: all of it is read again", async () => {
  const stream = await reload(await firstLife());
  stream.send("reset", { revision: rev(3, 2), reason: "epoch" }, rev(3, 2));
  stream.ready(rev(3, 2));
  for (let n = 0; n < 3; n++) (await api.reads.next()).answer("new", rev(3, 2));
  await vi.waitFor(() => expect(life.have()).toEqual([rev(3, 2), rev(3, 2), rev(3, 2)]));
  await life.idle(6);
});

for (const [what, broken] of [
  ["missing", undefined],
  ["a number", 12],
  ["of another form", { have: "12", topics: [] }],
  ["without topics", { have: rev(11) }],
] as const) {
  test(`a stamp that is ${what} is unknown: that query is read again`, async () => {
    const state = await firstLife();
    (state.queries[0]!.state as { freshet?: unknown }).freshet = broken;
    const stream = await reload(state);
    expect(sinceOf(stream)).toEqual({ [topics[1]!]: rev(12), [topics[2]!]: rev(13) });
    stream.ready(rev(20));
    const read = await api.reads.next();
    expect(read.atLeast).toBe(rev(20));
    read.answer("0", rev(20));
    await life.idle(4);
  });
}

test("what is hydrated over newer data isn't shown, though a clock says it is younger", async () => {
  const old = await firstLife();
  const stream = await reload(old);
  stream.invalidate(rev(18), [topics[1]!]);
  stream.ready(rev(20));
  (await api.reads.next()).answer("new", rev(20));
  await vi.waitFor(() => expect(life.have()[1]).toBe(rev(20)));
  // As React's hooks do, all that there is to see.
  const seen: unknown[] = [];
  const observer = life.observers[1]!;
  const bodies = () => (observer.getCurrentResult().data as { messages: { body: string }[] }).messages.map(({ body }) => body);
  const stop = observer.subscribe(notifyManager.batchCalls(() => seen.push(...bodies())));
  for (const { state } of old.queries) state.dataUpdatedAt = Date.now() + 60_000;
  hydrate(life.queryClient, old);
  await vi.waitFor(() => expect(seen).not.toEqual([]));
  expect(new Set(seen)).toEqual(new Set(["new"]));
  expect(life.have()[1]).toBe(rev(20));
  expect(life.observers[1]!.getCurrentQuery().state).toHaveProperty("freshet.have", rev(20));
  stop();
  await life.idle(4); // and nothing is read for its sake
});

test("hydrated over older data, newer is shown", async () => {
  const stream = await reload(await firstLife());
  stream.ready(rev(20));
  await vi.waitFor(() => expect(life.have()[1]).toBe(rev(20)));
  const newer = JSON.parse(JSON.stringify(dehydrate(life.queryClient))) as DehydratedState;
  const state = newer.queries[1]!.state as unknown as { data: { messages: { body: string }[] }; dataUpdatedAt: number; freshet: { have: string } };
  state.data.messages[0]!.body = "newer";
  state.freshet.have = rev(22);
  state.dataUpdatedAt = Date.now() + 60_000;
  hydrate(life.queryClient, newer);
  expect(life.have()[1]).toBe(rev(22));
  expect(life.observers[1]!.getCurrentResult().data).toMatchObject({ messages: [{ body: "newer" }] });
  await life.idle(3);
});

test("data that the page wrote itself has no stamp to keep", async () => {
  const first = new Life(server.url, api);
  first.mount(parents[0]);
  (await api.reads.next()).answer("a", rev(11));
  await vi.waitFor(() => expect(first.have()).toEqual([rev(11)]));
  const [query] = first.queryClient.getQueryCache().getAll();
  expect(query!.state).toHaveProperty("freshet.have", rev(11));
  first.queryClient.setQueryData(query!.queryKey, (old) => old);
  expect(query!.state).not.toHaveProperty("freshet");
  await server.requests.next();
  life = new Life(server.url, api, first.unload());
  const stream = await server.requests.next();
  expect(sinceOf(stream)).toBeUndefined();
});

test("rendered on a server by a closed client: no stream there, and the page reads only what changed", async () => {
  const rendering = new Life(server.url, api);
  rendering.freshet.close(); // before anything is asked for
  const transport = addStaticKeyToTransport(freshetTransport(rendering.freshet, api.transport), "api");
  for (const [n, parent] of parents.entries()) {
    const done = rendering.queryClient.fetchQuery(createQueryOptions(list, { parent, pageSize: 0 }, { transport }) as never);
    const read = await api.reads.next();
    expect(read.atLeast).toBeNull(); // strong
    read.answer(`${n}`, rev(11 + n));
    await done;
  }
  expect(rendering.freshet.status.state).toBe("closed");
  const state = rendering.unload();
  life = new Life(server.url, api, state);
  for (const parent of parents) life.mount(parent);
  const stream = await server.requests.next(); // the first: the rendering opened none
  expect(sinceOf(stream)).toEqual({ [topics[0]!]: rev(11), [topics[1]!]: rev(12), [topics[2]!]: rev(13) });
  stream.ready(rev(20));
  await vi.waitFor(() => expect(life.have()).toEqual([rev(20), rev(20), rev(20)]));
  await life.idle(3);
});
