// @vitest-environment happy-dom
import { createClient } from "@connectrpc/connect";
import { createQueryOptions, useInfiniteQuery, useSuspenseQuery } from "@connectrpc/connect-query";
import { InfiniteQueryObserver, QueryObserver, useQuery } from "@tanstack/react-query";
import { Suspense } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freshetFetch } from "../src/fetch.js";
import { MessageService, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { Queue, rev } from "./server.js";

let page: Page;

beforeEach(() => {
  page = new Page();
});
afterEach(() => page.close());

const options = () => createQueryOptions(list, { parent }, { transport: page.transport });

// Every way to read, with a notice that overtakes its first answer.
describe("a first fetch that a notice overtakes", () => {
  async function overtake(): Promise<void> {
    const first = await page.next();
    page.source.invalidate(rev(12), topic);
    first.answer("old", rev(11));
    const second = await page.next();
    expect(second.atLeast).toBe(rev(12));
    second.answer("new", rev(12));
  }

  test("useSuspenseQuery", async () => {
    function One() {
      return page.show(useSuspenseQuery(list, { parent }).data.messages[0]?.body);
    }
    page.mount(
      <Suspense fallback="loading">
        <One />
      </Suspense>,
    );
    await overtake();
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
    page.source.invalidate(rev(13), topic);
    (await page.next()).answer("newer", rev(13));
    await page.shows("newer");
    expect(page.api.reads.all).toHaveLength(3);
  });

  test("useInfiniteQuery", async () => {
    page.mount(<Pages />);
    await overtake();
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
  });

  test("fetchQuery: who awaits it gets the fresh answer", async () => {
    const answer = page.queryClient.fetchQuery(options());
    await overtake();
    expect((await answer).messages[0]?.body).toBe("new");
    expect([...page.source.topics]).toEqual([topic]);
  });

  test("prefetchQuery, then a mount that needs no read", async () => {
    const done = page.queryClient.prefetchQuery(options());
    await overtake();
    await done;
    const observer = new QueryObserver(page.queryClient, options());
    observer.subscribe(() => {});
    expect(observer.getCurrentResult().data?.messages[0]?.body).toBe("new");
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    observer.destroy();
  });

  test("a key written by hand, with meta.topics", async () => {
    const client = createClient(MessageService, page.transport);
    function One() {
      const { data } = useQuery({
        queryKey: ["mine", 7],
        queryFn: async ({ signal }) => (await client.listMessages({ parent }, { signal })).messages[0]!.body,
        meta: { topics: [topic] },
      });
      return page.show(data);
    }
    page.mount(<One />);
    await overtake();
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
  });

  test("a key written by hand, without: its requests tell the topics", async () => {
    const client = createClient(MessageService, page.transport);
    function One() {
      const { data } = useQuery({
        queryKey: ["mine", 7],
        queryFn: async ({ signal }) => (await client.listMessages({ parent }, { signal })).messages[0]!.body,
      });
      return page.show(data);
    }
    page.mount(<One />);
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([topic]));
    await overtake();
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
  });

  for (const [what, stamps, have] of [
    ["the oldest counts", [rev(12), rev(11)], rev(11)],
    ["one of unknown age counts", [rev(12), null], undefined],
  ] as const) {
    test(`of several requests ${what}`, async () => {
      const client = createClient(MessageService, page.transport);
      const observer = new QueryObserver(page.queryClient, {
        queryKey: ["both"],
        queryFn: async ({ signal }) =>
          (await Promise.all([1, 2].map((pageSize) => client.listMessages({ parent, pageSize }, { signal })))).length,
      });
      observer.subscribe(() => {});
      for (const stamp of stamps) (await page.next()).answer("x", stamp);
      await vi.waitFor(() => expect(observer.getCurrentResult().data).toBe(2));
      expect(page.report.have).toBe(have);
      observer.destroy();
    });
  }

  /** Requests of a raw fetch, answered by the test. */
  interface Call {
    readonly atLeast: string | null;
    answer(body: string, stamp?: string): void;
  }
  const calls = new Queue<Call>();
  const server: typeof globalThis.fetch = (_input, init) =>
    new Promise((resolve) =>
      calls.push({
        atLeast: new Headers(init?.headers).get("freshet-at-least"),
        answer: (body, stamp) =>
          resolve(new Response(JSON.stringify(body), { headers: stamp ? { "freshet-revision": stamp } : {} })),
      }),
    );

  test("raw fetch with stamps", async () => {
    const stamped = freshetFetch(page.source, server);
    function One() {
      const { data } = useQuery({
        queryKey: ["raw"],
        queryFn: async ({ signal }) => (await (await stamped("http://x/", { signal })).json()) as string,
        meta: { topics: () => [topic] },
      });
      return page.show(data);
    }
    page.mount(<One />);
    const first = await calls.next();
    expect(first.atLeast).toBe(rev(10));
    page.source.invalidate(rev(12), topic);
    first.answer("old", rev(11));
    const second = await calls.next();
    expect(second.atLeast).toBe(rev(12));
    second.answer("new", rev(12));
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
    expect(page.report.have).toBe(rev(12));
  });

  test("raw fetch: a position of a past epoch is dropped, and asked for strongly", async () => {
    const asked: (string | null)[] = [];
    const stamped = freshetFetch(page.source, (_input, init) => {
      const atLeast = new Headers(init?.headers).get("freshet-at-least");
      asked.push(atLeast);
      const headers = { "freshet-revision": rev(3, 2) };
      return Promise.resolve(new Response('"new"', { status: atLeast ? 400 : 200, headers }));
    });
    const data = await page.queryClient.fetchQuery({
      queryKey: ["raw"],
      queryFn: async ({ signal }) => (await (await stamped("http://x/", { signal })).json()) as string,
    });
    expect(data).toBe("new");
    expect(asked).toEqual([rev(10), null]);
  });

  test("raw fetch: a write names its topics", async () => {
    const told = vi.spyOn(page.source, "wrote");
    const headers = { "freshet-revision": rev(20), "freshet-topics": `messages,${topic}` };
    const post = freshetFetch(page.source, () => Promise.resolve(new Response("", { headers })));
    await post("http://x/", { method: "POST" });
    expect(told.mock.calls).toEqual([[rev(20), ["messages", topic]]]);
  });

  test("a function that has no stamps is taken to see what was told before it began", async () => {
    function One() {
      const { data } = useQuery({
        queryKey: ["raw"],
        queryFn: async () => (await (await server("http://x/")).json()) as string,
        meta: { topics: [topic] },
      });
      return page.show(data);
    }
    page.mount(<One />);
    const first = await calls.next();
    page.source.invalidate(rev(12), topic);
    first.answer("old");
    (await calls.next()).answer("new");
    await page.shows("new");
    await page.soon();
    expect(calls.left).toBe(0);
    expect(page.rendered).toEqual(["new"]);
    expect(page.report.have).toBe(rev(12));
  });

  // Its own persister keeps ours out: only the ends of its fetches are seen.
  test("a query with a persister of its own", async () => {
    const stored = vi.fn();
    function One() {
      const { data } = useQuery({
        queryKey: ["kept"],
        queryFn: async ({ signal }) => (await (await server("http://x/", { signal })).json()) as string,
        meta: { topics: [topic] },
        persister: async (queryFn, context) => {
          const data = await queryFn(context);
          stored(data);
          return data;
        },
      });
      return page.show(data);
    }
    page.mount(<One />);
    const first = await calls.next();
    page.source.invalidate(rev(12), topic);
    first.answer("old");
    (await calls.next()).answer("new");
    await page.shows("new");
    expect(stored.mock.calls).toEqual([["old"], ["new"]]);
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(12), fresh: true }));
    page.source.invalidate(rev(13), topic);
    (await calls.next()).answer("newer");
    await page.shows("newer");
    expect(calls.left).toBe(0);
  });

  test("a persister of its own that restores old data: read again at once", async () => {
    function One() {
      const { data } = useQuery({
        queryKey: ["kept"],
        queryFn: async () => (await (await server("http://x/")).json()) as string,
        meta: { topics: [topic] },
        persister: async (queryFn, context, query) =>
          query.state.data === undefined ? ("restored" as never) : await queryFn(context),
      });
      return page.show(data);
    }
    page.source.ready(rev(12)); // heard before, so "restored" might pass for an answer
    page.mount(<One />);
    await page.shows("restored");
    page.source.ready(rev(12));
    (await calls.next()).answer("new");
    await page.shows("new");
  });
});

function Pages() {
  const { data } = useInfiniteQuery(
    list,
    { parent, pageToken: "" },
    { pageParamKey: "pageToken", getNextPageParam: (last) => last.nextPageToken || undefined },
  );
  return page.show(data?.pages.map((p) => p.messages[0]?.body).join(" "));
}

// F30.
describe("an infinite query", () => {
  const observer = () => {
    const query = page.queryClient.getQueryCache().getAll()[0]!;
    return query.observers[0] as unknown as InfiniteQueryObserver;
  };
  async function tenPages(): Promise<void> {
    page.mount(<Pages />);
    for (let n = 1; n <= 10; n++) {
      if (n > 1) void observer().fetchNextPage();
      (await page.next()).answer(`${n}`, rev(10 + n), n < 10 ? `${n + 1}` : "");
      await page.shows(Array.from({ length: n }, (_, i) => i + 1).join(" "));
    }
  }

  test("is as old as its oldest page", async () => {
    await tenPages();
    expect(page.report.have).toBe(rev(11));
  });

  test("of ten pages, one row changes: one refetch of each page, consistent", async () => {
    await tenPages();
    page.source.invalidate(rev(30), topic);
    for (let n = 1; n <= 10; n++) {
      const read = await page.next();
      expect(read.atLeast).toBe(rev(30));
      read.answer(`${n}'`, rev(30), n < 10 ? `${n + 1}` : "");
    }
    await page.shows("1' 2' 3' 4' 5' 6' 7' 8' 9' 10'");
    await page.soon();
    expect(page.api.reads.all).toHaveLength(20);
    expect(page.report).toMatchObject({ have: rev(30), fresh: true });
  });

  test("a change in the middle of the refetch: all pages once more, none of before it", async () => {
    await tenPages();
    page.source.invalidate(rev(30), topic);
    for (let n = 1; n <= 10; n++) {
      const read = await page.next();
      if (n === 5) page.source.invalidate(rev(31), topic);
      if (n > 5) expect(read.atLeast).toBe(rev(31));
      read.answer(`${n}'`, rev(n < 5 ? 30 : 31), n < 10 ? `${n + 1}` : "");
    }
    for (let n = 1; n <= 10; n++) {
      const read = await page.next();
      expect(read.atLeast).toBe(rev(31));
      read.answer(`${n}''`, rev(31), n < 10 ? `${n + 1}` : "");
    }
    await page.shows("1'' 2'' 3'' 4'' 5'' 6'' 7'' 8'' 9'' 10''");
    await page.soon();
    expect(page.api.reads.all).toHaveLength(30);
    expect(page.report).toMatchObject({ have: rev(31), fresh: true });
  });
});

describe("writes", () => {
  test("a mutation's own topics make its queries fresh, unnamed and before the stream does", async () => {
    const observer = new QueryObserver(page.queryClient, options());
    observer.subscribe(() => {});
    (await page.next()).answer("a", rev(10));
    page.api.writeHeaders = { "freshet-revision": rev(20), "freshet-topics": topic };
    await createClient(MessageService, page.transport).createMessage({ parent });
    const refetch = await page.next();
    expect(refetch.atLeast).toBe(rev(20));
    refetch.answer("b", rev(20));
    await vi.waitFor(() => expect(page.report.fresh).toBe(true));
    page.source.invalidate(rev(20), topic); // its echo
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    observer.destroy();
  });

  test("setQueryData during a fetch is not overwritten by an answer from before it", async () => {
    const observer = new QueryObserver(page.queryClient, options());
    const seen: unknown[] = [];
    observer.subscribe(({ data }) => seen.push(data?.messages[0]?.body));
    (await page.next()).answer("a", rev(10));
    await vi.waitFor(() => expect(seen.at(-1)).toBe("a"));
    page.source.invalidate(rev(11), topic);
    const refetch = await page.next();
    const data = observer.getCurrentResult().data!;
    page.queryClient.setQueryData(options().queryKey, {
      ...data,
      messages: [{ ...data.messages[0]!, body: "typed" }],
    });
    refetch.answer("old", rev(11));
    const again = await page.next();
    expect(seen).not.toContain("old");
    again.answer("b", rev(12));
    await vi.waitFor(() => expect(seen.at(-1)).toBe("b"));
    expect(seen).not.toContain("old");
    observer.destroy();
  });
});

describe("queries come and go", () => {
  test("one that is collected is no longer followed", async () => {
    await Promise.all([page.queryClient.fetchQuery(options()), page.next().then((read) => read.answer("a", rev(10)))]);
    expect([...page.source.topics]).toEqual([topic]);
    page.queryClient.removeQueries();
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([]));
    expect(page.queries.report()).toEqual([]);
  });

  test("data that came from elsewhere on a topic that is followed already is read again", async () => {
    const observer = new QueryObserver(page.queryClient, options());
    observer.subscribe(() => {});
    (await page.next()).answer("a", rev(10));
    page.source.ready(rev(10));
    page.source.invalidate(rev(15), topic);
    (await page.next()).answer("b", rev(15));
    await vi.waitFor(() => expect(observer.getCurrentResult().data?.messages[0]?.body).toBe("b"));
    const other = createQueryOptions(list, { parent, pageSize: 3 }, { transport: page.transport });
    page.queryClient.setQueryData(other.queryKey, observer.getCurrentResult().data!);
    const late = new QueryObserver(page.queryClient, other);
    late.subscribe(() => {});
    expect(late.getCurrentResult().data).toBeDefined();
    const read = await page.next();
    expect(read.atLeast).toBe(rev(15));
    read.answer("c", rev(15));
    late.destroy();
    observer.destroy();
  });

  test("close leaves the queries alone", async () => {
    const observer = new QueryObserver(page.queryClient, options());
    observer.subscribe(() => {});
    (await page.next()).answer("a", rev(10));
    page.queries.close();
    page.source.invalidate(rev(11), topic);
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    expect(page.queryClient.getDefaultOptions().queries?.persister).toBeUndefined();
    observer.destroy();
  });
});
