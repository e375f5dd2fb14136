// @vitest-environment happy-dom
import { Code, createClient } from "@connectrpc/connect";
import { useInfiniteQuery } from "@connectrpc/connect-query";
import { InfiniteQueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freshetFetch } from "../src/fetch.js";
import { MessageService, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { Queue, rev } from "./server.js";

// Infinite queries whose runs fail, and are retried by TanStack Query: at the
// page that failed, with the pages of before.

let page: Page;

beforeEach(() => {
  page = new Page();
});
afterEach(() => page.close());

function Pages() {
  const { data } = useInfiniteQuery(
    list,
    { parent, pageToken: "" },
    {
      pageParamKey: "pageToken",
      getNextPageParam: (last) => last.nextPageToken || undefined,
      retry: 1,
      retryDelay: 50,
    },
  );
  return page.show(data?.pages.map((p) => p.messages[0]?.body).join(" "));
}

const observer = () =>
  page.queryClient.getQueryCache().getAll()[0]!.observers[0] as unknown as InfiniteQueryObserver;

/** Two pages, both stamped 11. */
async function twoPages(): Promise<void> {
  page.mount(<Pages />);
  (await page.next()).answer("1", rev(11), "2");
  await page.shows("1");
  void observer().fetchNextPage();
  (await page.next()).answer("2", rev(11));
  await page.shows("1 2");
}

/** A refetch of both at 30, whose second page fails once. */
async function failSecond(): Promise<void> {
  page.source.invalidate(rev(30), topic);
  (await page.next()).answer("1'", rev(30), "2");
  (await page.next()).fail(Code.Unavailable);
}

describe("F58: a retried run", () => {
  test("is as old as the pages of before the failure", async () => {
    await twoPages();
    await failSecond();
    page.source.invalidate(rev(31), topic); // a row is inserted while the retry waits
    const retried = await page.next();
    expect(retried.pageToken).toBe("2");
    expect(retried.atLeast).toBe(rev(31));
    retried.answer("2'", rev(31));
    const first = await page.next();
    expect(first.pageToken).toBe("");
    expect(first.atLeast).toBe(rev(31));
    first.answer("1''", rev(31), "2");
    (await page.next()).answer("2''", rev(31));
    await page.shows("1'' 2''");
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(31), fresh: true }));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  test("of which nothing was overtaken costs no further read", async () => {
    await twoPages();
    await failSecond();
    (await page.next()).answer("2'", rev(30));
    await page.shows("1' 2'");
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(30), fresh: true }));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  test("with pages of two histories has no age, and is read again", async () => {
    await twoPages();
    page.source.invalidate(rev(30), topic);
    (await page.next()).answer("1'", rev(30), "2");
    (await page.next()).fail(Code.Unavailable);
    (await page.next()).answer("2'", rev(5, 2));
    await vi.waitFor(() => expect(page.report.have).toBeUndefined());
    (await page.next()).answer("1''", rev(5, 2), "2");
    (await page.next()).answer("2''", rev(5, 2));
    await page.shows("1'' 2''");
  });

  test("that failed for good leaves nothing to the next", async () => {
    await twoPages();
    await failSecond();
    (await page.next()).fail(Code.Unavailable);
    await vi.waitFor(() => expect(observer().getCurrentResult().fetchStatus).toBe("idle"));
    const next = await page.next(); // after back-off
    expect(next.pageToken).toBe("");
    next.answer("1''", rev(32), "2");
    (await page.next()).answer("2''", rev(33));
    await page.shows("1'' 2''");
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(32), fresh: true }));
  });

  test("that is replaced while it waits is no part of the next", async () => {
    await twoPages();
    await failSecond();
    await vi.waitFor(() => expect(observer().getCurrentResult().failureCount).toBe(1));
    void observer().refetch({ cancelRefetch: true });
    const next = await page.next();
    expect(next.pageToken).toBe("");
    next.answer("1''", rev(32), "2");
    (await page.next()).answer("2''", rev(33));
    await page.shows("1'' 2''");
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(32), fresh: true }));
  });

  test("of one page more", async () => {
    page.mount(<Pages />);
    (await page.next()).answer("1", rev(11), "2");
    await page.shows("1");
    void observer().fetchNextPage();
    (await page.next()).fail(Code.Unavailable);
    (await page.next()).answer("2", rev(15));
    await page.shows("1 2");
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(11), fresh: true }));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });
});

// The same for functions that make something of a failure: it is a part of what
// is shown, and of unknown age.
test("a page that shows a failure has no age, also after a retry", async () => {
  const client = createClient(MessageService, page.transport);
  const query = new InfiniteQueryObserver(page.queryClient, {
    queryKey: ["mine"],
    queryFn: async ({ signal, pageParam }) => {
      const answer = client.listMessages({ parent, pageToken: pageParam }, { signal });
      if (pageParam !== "") return (await answer).messages[0]!.body;
      return answer.then(({ messages }) => messages[0]!.body, () => "?");
    },
    initialPageParam: "",
    getNextPageParam: (_last, all) => (all.length < 2 ? "2" : undefined),

    retry: 1,
    retryDelay: 5,
  });
  query.subscribe(() => {});
  (await page.next()).answer("1", rev(11));
  await vi.waitFor(() => expect(query.getCurrentResult().hasNextPage).toBe(true));
  void query.fetchNextPage();
  (await page.next()).answer("2", rev(11));
  await vi.waitFor(() => expect(query.getCurrentResult().data?.pages).toEqual(["1", "2"]));
  expect(page.report.have).toBe(rev(11));
  void query.refetch();
  (await page.next()).fail(Code.Unavailable);
  (await page.next()).fail(Code.Unavailable);
  (await page.next()).answer("2", rev(11));
  await vi.waitFor(() => expect(query.getCurrentResult().data?.pages).toEqual(["?", "2"]));
  expect(page.report.have).toBeUndefined();
  query.destroy();
});

test("F58: data that came while one more page was fetched is not replaced by what that was added to", async () => {
  page.mount(<Pages />);
  (await page.next()).answer("1", rev(11), "2");
  await page.shows("1");
  void observer().fetchNextPage();
  const more = await page.next();
  const query = page.queryClient.getQueryCache().getAll()[0]!;
  const { data } = observer().getCurrentResult();
  const typed = structuredClone(data) as { pages: { messages: { body: string }[] }[] };
  typed.pages[0]!.messages[0]!.body = "typed";
  page.queryClient.setQueryData(query.queryKey, typed);
  more.answer("2", rev(12));
  await vi.waitFor(() => expect(observer().getCurrentResult().fetchStatus).toBe("idle"));
  expect(page.rendered).toEqual(["1", "typed"]);
  expect(observer().getCurrentResult().hasNextPage).toBe(true);
});

// What a raw fetch is told, by status and body.
describe("raw fetch", () => {
  const calls = new Queue<{ init: RequestInit; respond: (response: Response | Error) => void }>();
  const inner: typeof globalThis.fetch = (_input, init) =>
    new Promise((resolve, reject) =>
      calls.push({ init: init!, respond: (r) => (r instanceof Error ? reject(r) : resolve(r)) }),
    );
  const atLeast = (init: RequestInit) => new Headers(init.headers).get("freshet-at-least");
  const stamped = (n: number, body: unknown = "x", status = 200) =>
    Response.json(body, { status, headers: { "freshet-revision": rev(n) } });

  test("a POST with a query's signal is a read", async () => {
    const wrote = vi.spyOn(page.source, "wrote");
    const send = freshetFetch(page.source, inner);
    const data = page.queryClient.fetchQuery({
      queryKey: ["raw"],
      queryFn: async ({ signal }) => (await (await send("http://x/", { method: "POST", body: "{}", signal })).json()) as string,
      meta: { topics: [topic] },
    });
    const call = await calls.next();
    expect(atLeast(call.init)).toBe(rev(10));
    call.respond(stamped(12));
    expect(await data).toBe("x");
    expect(page.report.have).toBe(rev(12));
    expect(wrote).not.toHaveBeenCalled();
  });

  test("F87: what fails has no stamp, and Retry-After is waited for", async () => {
    const send = freshetFetch(page.source, inner);
    const query = new InfiniteQueryObserver(page.queryClient, {
      queryKey: ["raw"],
      queryFn: async ({ signal }) => {
        const settled = await Promise.allSettled([send("http://x/", { signal }), send("http://x/", { signal })]);
        return settled.map((s) => (s.status === "fulfilled" ? s.value.status : 0));
      },
      initialPageParam: "",
      getNextPageParam: () => undefined,
      meta: { topics: [topic] },
    });
    query.subscribe(() => {});
    (await calls.next()).respond(stamped(12));
    (await calls.next()).respond(new TypeError("the network"));
    await vi.waitFor(() => expect(query.getCurrentResult().data?.pages).toEqual([[200, 0]]));
    expect(page.report.have).toBeUndefined();
    query.destroy();
  });
});
