// @vitest-environment happy-dom
import { clone, create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createQueryOptions, useInfiniteQuery, useQuery } from "@connectrpc/connect-query";
import { MutationObserver, onlineManager, type MutationObserverOptions } from "@tanstack/react-query";
import { cleanup } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { MessageSchema } from "../../../demo/src/gen/messages/v1/messages_pb.js";
import { ListMessagesResponseSchema, type ListMessagesResponse } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { MessageService, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

let page: Page;

beforeEach(async () => {
  page = new Page();
  page.mount(<One />);
  (await page.next()).answer("a", rev(10));
  await page.shows("a");
  page.source.ready(rev(10));
});
afterEach(() => {
  onlineManager.setOnline(true);
  page.close();
});

function One() {
  const { data } = useQuery(list, { parent });
  return page.show(data?.messages.map((m) => m.body).join());
}

const key = () => createQueryOptions(list, { parent }, { transport: page.transport }).queryKey;
const get = () => page.queryClient.getQueryData<ListMessagesResponse>(key())!;
const set = (data: ListMessagesResponse) => page.queryClient.setQueryData(key(), data as never);
const withMine = (data: ListMessagesResponse) => {
  const next = clone(ListMessagesResponseSchema, data);
  next.messages.push(create(MessageSchema, { body: "mine" }));
  return next;
};

type Options = MutationObserverOptions<unknown, Error, void, ListMessagesResponse>;

/** TanStack Query's way to show a write at once, whose end is the test's. */
const optimistic: Options = {
  onMutate: async () => {
    await page.queryClient.cancelQueries({ queryKey: key() });
    const snapshot = get();
    set(withMine(snapshot));
    return snapshot;
  },
  onError: (_error, _variables, snapshot) => set(snapshot!),
};

function mutate(options: Options) {
  let commit!: (headers: Record<string, string>) => void;
  let fail!: () => void;
  const gate = new Promise<void>((resolve, reject) => {
    commit = (headers) => {
      page.api.writeHeaders = headers;
      resolve();
    };
    fail = () => reject(new Error("no"));
  });
  const client = createClient(MessageService, page.transport);
  const mutation = new MutationObserver(page.queryClient, {
    mutationFn: () => gate.then(() => client.createMessage({ parent })),
    ...options,
  });
  return { commit, fail, done: mutation.mutate().catch(() => {}) };
}

/** Somebody else's change, read while a mutation runs. */
async function foreign(n: number): Promise<void> {
  page.source.invalidate(rev(n), topic);
  (await page.next()).answer("a,theirs", rev(n));
  await page.shows("a,theirs");
}

async function noMoreReads(): Promise<void> {
  await page.soon();
  expect(page.api.reads.left).toBe(0);
}

describe("a mutation that writes to the cache", () => {
  test("and fails puts back what is older than what was read meanwhile: it is read again", async () => {
    const write = mutate(optimistic);
    await page.shows("a,mine");
    await foreign(11);
    write.fail();
    await write.done;
    await page.shows("a");
    expect(page.report).toMatchObject({ fresh: false, freshness: "catching up", have: undefined });
    const read = await page.next();
    expect(read.atLeast).toBe(rev(11));
    read.answer("a,theirs", rev(11));
    await page.shows("a,theirs");
    expect(page.report).toMatchObject({ fresh: true, freshness: "live", have: rev(11) });
    await noMoreReads();
  });

  test("isn't read over while it runs, and isn't live", async () => {
    const write = mutate(optimistic);
    await page.shows("a,mine");
    page.source.frontier(rev(12));
    await noMoreReads();
    expect(page.report).toMatchObject({ fresh: false, freshness: "catching up" });
    write.fail();
    await write.done;
    (await page.next()).answer("a", rev(12));
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
    expect(page.rendered).toEqual(["a", "a,mine", "a"]);
  });

  test("and succeeds has one read, that of its stamp", async () => {
    const write = mutate(optimistic);
    await page.shows("a,mine");
    write.commit({ "freshet-revision": rev(12), "freshet-topics": topic });
    await write.done;
    const read = await page.next();
    expect(read.atLeast).toBe(rev(12));
    await page.soon(); // the mutation's end is no reason for another
    read.answer("a,mine", rev(12));
    await vi.waitFor(() => expect(page.report).toMatchObject({ freshness: "live", have: rev(12) }));
    await noMoreReads();
  });

  test("and succeeds without a stamp has one read as well", async () => {
    const write = mutate(optimistic);
    await page.shows("a,mine");
    write.commit({});
    await write.done;
    (await page.next()).answer("a,mine", rev(12));
    await vi.waitFor(() => expect(page.report).toMatchObject({ freshness: "live", have: rev(12) }));
    page.source.invalidate(rev(12), topic); // told by the log
    await noMoreReads();
  });

  test("and whose data was replaced by an answer since has no further read", async () => {
    const write = mutate({ ...optimistic, onError: undefined });
    await page.shows("a,mine");
    await foreign(11);
    expect(page.report.freshness).toBe("live");
    write.fail();
    await write.done;
    await noMoreReads();
  });

  test("by a callback of its caller: read again, too", async () => {
    const snapshot = get();
    const mutation = new MutationObserver(page.queryClient, { mutationFn: () => Promise.reject(new Error("no")) });
    mutation.subscribe(() => {});
    await foreign(11);
    await mutation.mutate(undefined, { onError: () => set(snapshot) }).catch(() => {});
    await page.shows("a");
    (await page.next()).answer("a,theirs", rev(11));
    await page.shows("a,theirs");
    await noMoreReads();
  });

  test("and whose caller puts back what was, once it has failed: read again, too", async () => {
    const snapshot = get();
    const write = mutate({ ...optimistic, onError: undefined });
    await page.shows("a,mine");
    write.fail();
    await write.done;
    const early = await page.next();
    set(snapshot); // as after `mutateAsync`
    await page.shows("a");
    early.answer("a,theirs", rev(11));
    (await page.next()).answer("a,theirs", rev(11));
    await page.shows("a,theirs");
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
    await noMoreReads();
  });

  test("beside another one: read when both are over", async () => {
    const first = mutate(optimistic);
    const second = mutate(optimistic);
    await page.shows("a,mine,mine");
    first.fail();
    await first.done;
    await page.shows("a");
    await noMoreReads();
    expect(page.report.freshness).toBe("catching up");
    second.fail();
    await second.done;
    (await page.next()).answer("a", rev(10));
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
    await noMoreReads();
  });

  test("doesn't wait for one that began later", async () => {
    const first = mutate({ ...optimistic, onError: undefined });
    await page.shows("a,mine");
    const later = mutate({});
    first.fail();
    await first.done;
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    expect(page.report.freshness).toBe("live");
    later.fail();
    await later.done;
    await noMoreReads();
  });

  test("during a read whose answer isn't let through, since it was asked for before", async () => {
    void page.queryClient.refetchQueries();
    const before = await page.next();
    const write = mutate({ onMutate: () => set(withMine(get())) as ListMessagesResponse });
    await page.shows("a,mine");
    before.answer("a", rev(10));
    await noMoreReads();
    expect(page.report.freshness).toBe("catching up");
    write.fail();
    await write.done;
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
  });

  test("while the network is away runs until it was sent", async () => {
    onlineManager.setOnline(false);
    const write = mutate(optimistic);
    await page.shows("a,mine");
    await noMoreReads();
    expect(page.report.freshness).toBe("catching up");
    write.commit({});
    onlineManager.setOnline(true);
    await page.queryClient.resumePausedMutations();
    await write.done;
    (await page.next()).answer("a,mine", rev(12));
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
    await noMoreReads();
  });

  test("that is removed while it waits for the network is over", async () => {
    onlineManager.setOnline(false);
    mutate(optimistic);
    await page.shows("a,mine");
    page.queryClient.getMutationCache().clear();
    onlineManager.setOnline(true);
    (await page.next()).answer("a", rev(10));
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
    await noMoreReads();
  });

  test("that is removed while it is sent is over when it is", async () => {
    const write = mutate(optimistic);
    await page.shows("a,mine");
    page.queryClient.getMutationCache().clear();
    await foreign(11);
    write.fail();
    await write.done;
    (await page.next()).answer("a,theirs", rev(11));
    await page.shows("a,theirs");
    await noMoreReads();
  });

  test("of what nobody shows: read when somebody does", async () => {
    const [query] = page.queryClient.getQueryCache().getAll();
    const shown = query!.observers[0]!;
    query!.removeObserver(shown);
    const write = mutate(optimistic);
    write.fail();
    await write.done;
    await noMoreReads();
    expect(query!.state.isInvalidated).toBe(true);
  });
});

test("a page more doesn't make sure of the pages that a mutation wrote to", async () => {
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
  page.queryClient.removeQueries();
  cleanup();
  page.mount(<Pages />);
  (await page.next()).answer("1", rev(10), "2");
  await page.shows("1");
  const [query] = page.queryClient.getQueryCache().getAll();
  const write = mutate({
    onMutate: () => {
      page.queryClient.setQueryData(query!.queryKey, (data: { pages: ListMessagesResponse[] }) => ({
        ...data,
        pages: data.pages.map(withMine),
      }));
      return undefined as never;
    },
  });
  await page.shows("1,mine");
  more();
  (await page.next()).answer("2", rev(10));
  await page.shows("1,mine 2");
  expect(page.report.freshness).toBe("catching up");
  write.fail();
  await write.done;
  (await page.next()).answer("1", rev(10), "2");
  (await page.next()).answer("2", rev(10));
  await page.shows("1 2");
  await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
});

test("a mutation that writes nothing to the cache has no read", async () => {
  const write = mutate({});
  write.fail();
  await write.done;
  await noMoreReads();
  expect(page.report).toMatchObject({ freshness: "live", have: rev(10) });
});

test("what is set outside of mutations isn't read again", async () => {
  set(withMine(get()));
  await page.shows("a,mine");
  const write = mutate({});
  write.fail();
  await write.done;
  await noMoreReads();
  expect(page.report.freshness).toBe("live");
});
