import { createRegistry } from "@bufbuild/protobuf";
import { persistQueryClientRestore, persistQueryClientSave } from "@tanstack/query-persist-client-core";
import { createSyncStoragePersister } from "@tanstack/query-sync-storage-persister";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { messageCodec } from "../src/connect.js";
import { Life, list, parents, stamped, topics } from "./life.js";
import { MessageApi } from "./message-api.js";
import { rev, StreamServer, type StreamRequest } from "./server.js";

// A page whose cache TanStack Query's persister keeps in a Storage, and restores.

const key = "cache";
const kept = new Map<string, string>();
const storage = {
  getItem: (name: string) => kept.get(name) ?? null,
  setItem: (name: string, value: string) => void kept.set(name, value),
  removeItem: (name: string) => void kept.delete(name),
};
const persister = createSyncStoragePersister({
  key,
  storage,
  throttleTime: 0,
  ...messageCodec(createRegistry(list.output)),
});
let server: StreamServer;
let api: MessageApi;
let life: Life;

beforeEach(async () => {
  kept.clear();
  server = await StreamServer.start();
  api = new MessageApi();
});
afterEach(async () => {
  life.unload();
  await server.close();
});

/** Three queries, stamped 11, 12 and 13, in the store. */
async function store(): Promise<void> {
  life = await stamped(server, api);
  persistQueryClientSave({ queryClient: life.queryClient as never, persister });
  await vi.waitFor(() => expect(kept.size).toBe(1));
  life.unload();
}

async function restore(): Promise<void> {
  await persistQueryClientRestore({ queryClient: life.queryClient as never, persister });
}

async function reload(): Promise<StreamRequest> {
  life = new Life(server.url, api);
  await restore();
  for (const parent of parents) life.mount(parent);
  return server.requests.next();
}

const bodies = () =>
  life.observers.map((observer) => {
    const data = observer.getCurrentResult().data as { messages: { body: string }[] } | undefined;
    return data?.messages.map(({ body }) => body).join();
  });
const freshness = () => life.queries.report().map((report) => report.freshness);

test("nothing changed since: shown, followed from its stamps, and nothing is read", async () => {
  await store();
  const stream = await reload();
  expect(stream.body?.["since_by_topic"]).toEqual({ [topics[0]!]: rev(11), [topics[1]!]: rev(12), [topics[2]!]: rev(13) });
  expect(bodies()).toEqual(["0", "1", "2"]);
  expect(freshness()).not.toContain("live"); // nobody has said yet that it is
  stream.ready(rev(20));
  await vi.waitFor(() => expect(freshness()).toEqual(["live", "live", "live"]));
  await life.idle(3);
});

test("one of them changed since: that one is read, once", async () => {
  await store();
  const stream = await reload();
  stream.invalidate(rev(18), [topics[1]!]);
  stream.ready(rev(20));
  const read = await api.reads.next();
  expect(read.atLeast).toBe(rev(18));
  expect(freshness()[1]).toBe("catching up");
  read.answer("changed", rev(20));
  await vi.waitFor(() => expect(freshness()).toEqual(["live", "live", "live"]));
  expect(bodies()).toEqual(["0", "changed", "2"]);
  await life.idle(4);
});

test("another history began since: none of it counts as fresh, all is read", async () => {
  await store();
  const stream = await reload();
  expect(freshness()).not.toContain("live");
  stream.send("reset", { revision: rev(3, 2), reason: "epoch" }, rev(3, 2));
  stream.ready(rev(3, 2));
  for (let n = 0; n < 3; n++) {
    const read = await api.reads.next();
    expect(freshness()).not.toEqual(["live", "live", "live"]);
    read.answer("new", rev(3, 2));
  }
  await vi.waitFor(() => expect(freshness()).toEqual(["live", "live", "live"]));
  expect(bodies()).toEqual(["new", "new", "new"]);
  await life.idle(6);
});

test("restored onto a page that is in a later history already: read at once, with no reset for the others", async () => {
  await store();
  life = new Life(server.url, api);
  life.mount(parents[0]);
  (await api.reads.next()).answer("new", rev(3, 2));
  const stream = await server.requests.next();
  stream.ready(rev(3, 2));
  await vi.waitFor(() => expect(freshness()).toEqual(["live"]));
  await restore(); // late: the first of them is there, and stays
  for (const parent of parents.slice(1)) life.mount(parent);
  expect(bodies()).toEqual(["new", "1", "2"]);
  expect(freshness()).toEqual(["live", "catching up", "catching up"]);
  const next = await server.requests.next();
  expect(next.since(topics[1]!)).toBe("");
  expect(next.since(topics[0]!)).toBe(rev(3, 2));
  next.ready(rev(4, 2));
  for (let n = 0; n < 2; n++) (await api.reads.next()).answer("read", rev(4, 2));
  await vi.waitFor(() => expect(freshness()).toEqual(["live", "live", "live"]));
  expect(bodies()).toEqual(["new", "read", "read"]);
  await life.idle(6);
});

test("old data never replaces new, whatever a clock says", async () => {
  await store();
  const stored = JSON.parse(kept.get(key)!) as {
    clientState: { queries: { state: { dataUpdatedAt: number } }[] };
  };
  for (const { state } of stored.clientState.queries) state.dataUpdatedAt = Date.now() + 60_000;
  kept.set(key, JSON.stringify(stored));
  life = new Life(server.url, api);
  life.mount(parents[0]);
  (await api.reads.next()).answer("new", rev(20));
  await vi.waitFor(() => expect(bodies()).toEqual(["new"]));
  await restore();
  expect(bodies()).toEqual(["new"]);
  expect(life.queries.report()[0]?.have).toBe(rev(20));
});
