// @vitest-environment happy-dom
import { createRegistry } from "@bufbuild/protobuf";
import { addStaticKeyToTransport, useMutation, useQuery } from "@connectrpc/connect-query";
import { persistQueryClient, type PersistedClient, type Persister } from "@tanstack/query-persist-client-core";
import { createSyncStoragePersister } from "@tanstack/query-sync-storage-persister";
import { onlineManager } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { messageCodec } from "../src/connect.js";
import { accountPersister } from "../src/tanstack.js";
import { MessageService, parent } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

// G8 on the client: what one account's page has stored is nobody else's, not for one render.

const key = "cache";
let kept: Map<string, string>;
let account: string | undefined;
let pages: Stay[];

beforeEach(() => {
  kept = new Map();
  account = "ada";
  pages = [];
});
afterEach(() => {
  onlineManager.setOnline(true);
  for (const page of pages) page.close();
});

function store(throttleTime = 0): Persister {
  const storage = {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  };
  return createSyncStoragePersister({ key, storage, throttleTime, ...messageCodec(createRegistry(list.output)) });
}

/** A page of whoever is signed in, from load to unload. */
class Stay extends Page {
  readonly restored: Promise<void>;
  readonly unsubscribe: () => void;

  constructor(persister: Persister = store(), buster = "") {
    super();
    pages.push(this);
    const own = accountPersister({ queries: this.queries, persister, account: () => account });
    [this.unsubscribe, this.restored] = persistQueryClient({ queryClient: this.queryClient as never, persister: own, buster });
  }

  show1(): void {
    const One = () => {
      const { data } = useQuery(list, { parent });
      return this.show(data?.messages[0]?.body ?? "loading");
    };
    this.mount(<One />, addStaticKeyToTransport(this.transport, "api"));
  }

  override close(): void {
    this.unsubscribe();
    super.close();
  }
}

/** Somebody has read this, and left. */
async function stay(of: string, body: string): Promise<void> {
  account = of;
  const page = new Stay();
  await page.restored;
  page.show1();
  (await page.next()).answer(body, rev(10));
  await page.shows(body);
  await vi.waitFor(() => expect(kept.get(key)).toContain(body));
  page.close();
}

test("one's own is on show at once", async () => {
  await stay("ada", "ada's");
  const page = new Stay();
  await page.restored;
  page.show1();
  expect(page.rendered).toEqual(["ada's"]);
});

test("another's isn't, not for one render, and is gone from the store", async () => {
  await stay("ada", "ada's");
  account = "bob";
  const page = new Stay();
  page.show1(); // on show before the store has answered, too
  await page.restored;
  expect(kept.get(key) ?? "").not.toContain("ada's");
  expect(page.queryClient.getQueryCache().getAll().map(({ state }) => state.data)).toEqual([undefined]);
  (await page.next()).answer("bob's", rev(10));
  await page.shows("bob's");
  expect(page.rendered).toEqual(["loading", "bob's"]);
  await vi.waitFor(() => expect(kept.get(key)).toContain("bob's"));
  expect(kept.get(key)).not.toContain("ada's");
});

test("nor is what was stored without a name, or with another buster", async () => {
  account = "ada";
  kept.set(key, JSON.stringify({ timestamp: Date.now(), buster: "", clientState: { queries: [{ queryKey: ["x"], queryHash: '["x"]', state: { data: "whose?", status: "success" } }], mutations: [] } }));
  const page = new Stay();
  await page.restored;
  expect(page.queryClient.getQueryCache().getAll()).toEqual([]);
  page.close();
  await stay("ada", "ada's");
  const next = new Stay(store(), "version 2");
  await next.restored;
  expect(next.queryClient.getQueryCache().getAll()).toEqual([]);
});

test("a write of another's that waited for the network isn't sent", async () => {
  const write = (page: Stay) => {
    function Writer() {
      const { mutate } = useMutation(MessageService.method.createMessage, { mutationKey: ["write"] });
      return <button type="button" onClick={() => mutate({ parent })}>write</button>;
    }
    return page.mount(<Writer />);
  };
  const page = new Stay();
  await page.restored;
  onlineManager.setOnline(false);
  write(page).getByText("write").click();
  await vi.waitFor(() => expect(kept.get(key)).toContain('"isPaused":true'));
  page.close();

  const own = new Stay();
  await own.restored;
  expect(own.queryClient.getMutationCache().getAll()).toHaveLength(1);
  own.close();
  account = "bob";
  const other = new Stay();
  await other.restored;
  expect(other.queryClient.getMutationCache().getAll()).toEqual([]);
});

test("a change of account empties the store; what is read then is the next one's", async () => {
  await stay("ada", "ada's");
  const page = new Stay();
  await page.restored;
  page.show1();
  await page.shows("ada's");
  account = "bob";
  page.source.changeAccount();
  await page.shows("loading");
  await vi.waitFor(() => expect(kept.get(key) ?? "").not.toContain("ada's"));
  (await page.next()).answer("bob's", rev(11));
  await vi.waitFor(() => expect(kept.get(key)).toContain("bob's"));
  page.close();

  account = "ada";
  const back = new Stay();
  await back.restored;
  expect(back.queryClient.getQueryCache().getAll()).toEqual([]);
});

test("a change of account while the store is being read, or is about to be taken: nothing is restored", async () => {
  await stay("ada", "ada's");
  const stored = (await store().restoreClient())!;
  let answer!: (client: PersistedClient) => void;
  const slow: Persister = { ...store(), restoreClient: () => new Promise((resolve) => (answer = resolve)) };
  const page = new Stay(slow);
  account = "bob";
  page.source.changeAccount();
  await vi.waitFor(() => expect(kept.get(key) ?? "").not.toContain("ada's")); // nothing else is about to be kept
  answer(stored);
  await page.restored;
  expect(page.queryClient.getQueryCache().getAll()).toEqual([]);

  account = "ada";
  const other = new Page();
  const own = accountPersister({ queries: other.queries, persister: { ...store(), restoreClient: () => stored }, account: () => account });
  const client = (await own.restoreClient())!;
  expect(client.clientState.queries).toHaveLength(1);
  account = "bob";
  other.source.changeAccount();
  expect(client.clientState).toEqual({ queries: [], mutations: [] });
  other.close();
});

test("while nobody says whose page it is, nothing is restored, and nothing kept", async () => {
  await stay("ada", "ada's");
  const before = kept.get(key);
  account = undefined;
  const page = new Stay();
  await page.restored;
  page.show1();
  (await page.next()).answer("somebody's", rev(11));
  await page.shows("somebody's");
  await page.soon();
  expect(kept.get(key)).toBe(before);
});

test("somebody else's page without a change of account: nothing is kept, and the store is emptied", async () => {
  await stay("ada", "ada's");
  const page = new Stay();
  await page.restored;
  page.show1();
  await page.shows("ada's");
  account = "bob"; // and the app has forgotten to say so
  page.source.invalidate(rev(12), `${parent}/messages`);
  (await page.next()).answer("bob's", rev(12));
  await page.shows("bob's");
  await vi.waitFor(() => expect(kept.get(key) ?? "").not.toContain("ada's"));
  expect(kept.get(key) ?? "").not.toContain("bob's");
  page.close();
  account = "ada";
  const back = new Stay();
  await back.restored;
  expect(back.queryClient.getQueryCache().getAll()).toEqual([]);
});

test("a store that can't be written any more is emptied all the same", async () => {
  await stay("ada", "ada's");
  const full: Persister = {
    ...store(),
    persistClient() {
      throw new Error("no room");
    },
  };
  const page = new Page();
  const own = accountPersister({ queries: page.queries, persister: full, account: () => account });
  expect(await own.restoreClient()).toBeDefined();
  account = "bob";
  page.source.changeAccount();
  expect(kept.get(key)).toBeUndefined();
  page.close();
});

test("what a store was told and hasn't written yet isn't written after a change of account", async () => {
  const page = new Page();
  const own = accountPersister({ queries: page.queries, persister: store(30), account: () => account });
  const queries = [{ queryKey: ["x"], queryHash: '["x"]', state: { data: "ada's" } }];
  await own.persistClient({ timestamp: 1, buster: "", clientState: { queries, mutations: [] } } as never);
  account = undefined; // nobody knows yet who is next
  page.source.changeAccount();
  await vi.waitFor(() => expect(kept.get(key)).toBeDefined());
  expect(kept.get(key)).not.toContain("ada's");
  page.close();
});
