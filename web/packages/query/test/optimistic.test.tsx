// @vitest-environment happy-dom
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createQueryOptions, useInfiniteQuery, useQuery } from "@connectrpc/connect-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { MessageSchema } from "../../../demo/src/gen/messages/v1/messages_pb.js";
import type { ListMessagesResponse } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { MessageService, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

let page: Page;
let client: Client<typeof MessageService>;

beforeEach(() => {
  page = new Page();
  client = createClient(MessageService, page.transport);
});
afterEach(() => page.close());

function One() {
  const { data } = useQuery(list, { parent });
  return page.show(data?.messages.map((m) => m.body).join());
}

async function mounted(): Promise<void> {
  page.mount(<One />);
  (await page.next()).answer("a", rev(10));
  await page.shows("a");
  page.source.ready(rev(10));
}

/** A write whose return, and whether it succeeds, are the test's. */
interface Write {
  readonly done: Promise<unknown>;
  commit(headers: Record<string, string>): void;
  fail(): void;
}

function write(body: string): Write {
  let commit!: Write["commit"];
  let fail!: Write["fail"];
  const gate = new Promise<void>((resolve, reject) => {
    commit = (headers) => {
      page.api.writeHeaders = headers;
      resolve();
    };
    fail = () => reject(new ConnectError("no", Code.Unavailable));
  });
  const done = page.queries.optimistic({
    updates: [
      {
        filters: { queryKey: createQueryOptions(list, { parent }, { transport: page.transport }).queryKey },
        update: (data: ListMessagesResponse) => ({
          ...data,
          messages: [...data.messages, create(MessageSchema, { body })],
        }),
      },
    ],
    write: async ({ signal }) => {
      await gate;
      return client.createMessage({ parent }, { signal });
    },
  });
  return { done, commit, fail };
}

const stamped = (n: number, topics?: string) => ({
  "freshet-revision": rev(n),
  ...(topics && { "freshet-topics": topics }),
});

// F33.
describe("an optimistic write", () => {
  test("is shown at once, and until an answer contains it", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    mine.commit(stamped(12, topic));
    await mine.done;
    const refetch = await page.next();
    expect(refetch.atLeast).toBe(rev(12));
    refetch.answer("a+mine", rev(12));
    await page.shows("a+mine");
    expect(page.rendered).toEqual(["a", "a,mine", "a+mine"]);
  });

  test("a foreign change before its commit: it does not flicker", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    page.source.invalidate(rev(11), topic);
    (await page.next()).answer("a+theirs", rev(11)); // waits for the write to return
    mine.commit(stamped(12, topic));
    await mine.done;
    const last = await page.next();
    expect(last.atLeast).toBe(rev(12));
    last.answer("a+theirs+mine", rev(12));
    await page.shows("a+theirs+mine");
    for (const shown of page.rendered.slice(1)) expect(shown).toContain("mine");
  });

  test("a foreign change after its commit, read too early: it does not flicker", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    page.source.invalidate(rev(11), topic);
    const early = await page.next();
    mine.commit(stamped(13)); // and no topics: the queries are named by the updates
    await mine.done;
    early.answer("a+theirs", rev(11));
    const last = await page.next();
    expect(last.atLeast).toBe(rev(13));
    page.source.invalidate(rev(14), topic);
    last.answer("a+theirs+mine", rev(13));
    (await page.next()).answer("all", rev(14));
    await page.shows("all");
    for (const shown of page.rendered.slice(1, -1)) expect(shown).toContain("mine");
  });

  test("is never shown twice: its own notice comes before its answer", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    page.source.invalidate(rev(12), topic); // its own
    (await page.next()).answer("a+mine", rev(12));
    await page.soon();
    mine.commit(stamped(12, topic));
    await mine.done;
    await page.shows("a+mine");
    expect(page.rendered).toEqual(["a", "a,mine", "a+mine"]);
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  test("that the data turns out to be past already goes when it returns, without a read", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    page.source.frontier(rev(13)); // nothing of this topic has changed up to here
    mine.commit(stamped(12));
    await mine.done;
    await page.shows("a");
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  test("that fails is taken back, and the database is asked", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    mine.fail();
    await expect(mine.done).rejects.toThrow("no");
    await page.shows("a");
    const check = await page.next();
    expect(check.atLeast).toBeNull(); // it may have been committed all the same
    check.answer("a", rev(11));
    await page.soon();
    expect(page.rendered).toEqual(["a", "a,mine", "a"]);
  });

  test("over a refetch that is under way leaves that as good as it was", async () => {
    await mounted();
    page.source.invalidate(rev(11), topic);
    const refetch = await page.next();
    const mine = write("mine");
    await page.shows("a,mine");
    mine.fail();
    await expect(mine.done).rejects.toThrow();
    refetch.answer("a+theirs", rev(11));
    await page.shows("a+theirs");
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  test("over data that is marked leaves it marked", async () => {
    const options = createQueryOptions(list, { parent }, { transport: page.transport });
    const get = () => page.queryClient.fetchQuery({ ...options, staleTime: Infinity });
    const first = get();
    (await page.next()).answer("a", rev(10));
    await first;
    page.source.invalidate(rev(11), topic); // nobody watches
    const mine = write("mine");
    const second = get();
    mine.fail();
    await expect(mine.done).rejects.toThrow();
    (await page.next()).answer("b", rev(11));
    expect((await second).messages[0]?.body).toBe("b");
  });

  test("that fails leaves what came meanwhile", async () => {
    await mounted();
    const first = write("one");
    const second = write("two");
    await page.shows("a,one,two");
    first.fail();
    await expect(first.done).rejects.toThrow();
    await page.shows("a,two");
    second.commit(stamped(12, topic));
    await second.done;
    (await page.next()).answer("a", rev(10)); // the check, from before the write
    (await page.next()).answer("a+two", rev(12));
    await page.shows("a+two");
    expect(page.rendered.slice(-3).every((shown) => shown.includes("two"))).toBe(true);
  });

  test("without a stamp is not kept up: the database is asked", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    mine.commit({});
    await mine.done;
    (await page.next()).answer("a+mine", rev(12));
    await page.shows("a+mine");
  });

  test("a write that hangs holds an answer back for two seconds, no longer", async () => {
    await mounted();
    const mine = write("mine");
    await page.shows("a,mine");
    page.source.invalidate(rev(11), topic);
    const before = Date.now();
    (await page.next()).answer("a+theirs", rev(11));
    await vi.waitFor(() => expect(page.rendered.at(-1)).toBe("a+theirs,mine"), { timeout: 5000 });
    expect(Date.now() - before).toBeLessThan(5000);
    mine.fail();
    await expect(mine.done).rejects.toThrow();
    (await page.next()).answer("a+theirs", rev(11));
  });

  test("its data has no stamp to keep in a store", async () => {
    await mounted();
    const [query] = page.queryClient.getQueryCache().getAll();
    expect(query!.state).toHaveProperty("freshet.have");
    const mine = write("mine");
    page.source.frontier(rev(11));
    expect(query!.state).not.toHaveProperty("freshet");
    mine.commit(stamped(12, topic));
    await mine.done;
    (await page.next()).answer("a+mine", rev(12));
    await page.shows("a+mine");
    expect(query!.state).toHaveProperty("freshet.have", rev(12));
  });
});

test("a page more of a patched infinite query does not patch it twice", async () => {
  const options = {
    pageParamKey: "pageToken" as const,
    getNextPageParam: (last: ListMessagesResponse) => last.nextPageToken || undefined,
  };
  let more!: () => void;
  function Pages() {
    const { data, fetchNextPage } = useInfiniteQuery(list, { parent, pageToken: "" }, options);
    more = () => void fetchNextPage();
    return page.show(data?.pages.map((p) => p.messages.map((m) => m.body).join()).join(" "));
  }
  page.mount(<Pages />);
  (await page.next()).answer("1", rev(10), "2");
  await page.shows("1");
  page.source.ready(rev(10));
  page.api.writeHeaders = stamped(12, topic);
  const [query] = page.queryClient.getQueryCache().getAll();
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const done = page.queries.optimistic({
    updates: [
      {
        filters: { queryKey: query!.queryKey },
        update: (data: { pages: ListMessagesResponse[] }) => ({
          ...data,
          pages: data.pages.map((p, n) =>
            n > 0 ? p : { ...p, messages: [create(MessageSchema, { body: "mine" }), ...p.messages] },
          ),
        }),
      },
    ],
    write: async ({ signal }) => {
      await gate;
      return client.createMessage({ parent }, { signal });
    },
  });
  await page.shows("mine,1");
  more();
  (await page.next()).answer("2", rev(10));
  release();
  await done;
  await page.shows("mine,1 2");
  (await page.next()).answer("mine+1", rev(12), "2");
  (await page.next()).answer("2", rev(12));
  await page.shows("mine+1 2");
  expect(page.rendered.every((shown) => !shown.includes("mine,mine"))).toBe(true);
});

// Stamps are lower bounds: an answer from before the write was told may hold it.
test("a write that an answer holds above its stamp is found by what it returned", async () => {
  const options = {
    pageParamKey: "pageToken" as const,
    getNextPageParam: (last: ListMessagesResponse) => last.nextPageToken || undefined,
  };
  function Pages() {
    const { data } = useInfiniteQuery(list, { parent, pageToken: "" }, options);
    return page.show(data?.pages.map((p) => p.messages.map((m) => m.body).join()).join(" "));
  }
  page.mount(<Pages />);
  (await page.next()).answer("a", rev(10));
  await page.shows("a");
  page.source.ready(rev(10));
  const [query] = page.queryClient.getQueryCache().getAll();
  let commit!: () => void;
  const gate = new Promise<void>((resolve) => (commit = resolve));
  const done = page.queries.optimistic({
    updates: [
      {
        filters: { queryKey: query!.queryKey },
        update: (data: { pages: ListMessagesResponse[] }, written: string | undefined) => {
          const [first] = data.pages;
          if (first!.messages.some(({ body }) => body === written)) return data;
          const own = create(MessageSchema, { body: written ?? "pending" });
          return { ...data, pages: [{ ...first!, messages: [...first!.messages, own] }] };
        },
      },
    ],
    write: async ({ signal }) => {
      await gate;
      page.api.writeHeaders = stamped(12);
      await client.createMessage({ parent }, { signal });
      return "mine";
    },
  });
  await page.shows("a,pending");
  page.source.invalidate(rev(11), topic); // somebody else's
  (await page.next()).answer("mine", rev(11)); // with the own one, which had not been told
  await page.soon(); // held back, until it is known whether it is in
  commit();
  await done;
  const last = await page.next();
  await page.soon(); // what the first answer made of it is rendered
  last.answer("mine", rev(12));
  await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(12), fresh: true }));
  await page.shows("mine");
  expect(page.rendered.filter((shown) => shown.includes("mine,mine"))).toEqual([]);
  expect(page.rendered.slice(0, 2)).toEqual(["a", "a,pending"]);
});
