// @vitest-environment happy-dom
import { Code } from "@connectrpc/connect";
import { createQueryOptions, useQuery } from "@connectrpc/connect-query";
import { onlineManager, QueryObserver } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { parent, retryInfo, topic } from "./message-api.js";
import { bindQueries } from "../src/tanstack.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

let page: Page;

beforeEach(() => {
  page = new Page();
});
afterEach(() => {
  page.close();
  vi.useRealTimers();
});

function One(): ReactNode {
  const { data, error } = useQuery(list, { parent });
  return page.show(error ? `error: ${error.code}` : data?.messages.map((m) => m.body).join());
}

describe("useQuery", () => {
  test("asks at-least what was heard, and follows its topics", async () => {
    page.mount(<One />);
    const first = await page.next();
    expect(first.atLeast).toBe(rev(10));
    expect([...page.source.topics]).toEqual([topic]);
    first.answer("a", rev(10));
    await page.shows("a");
    page.source.ready(rev(10));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    page.source.invalidate(rev(11), topic);
    const second = await page.next();
    expect(second.atLeast).toBe(rev(11));
    second.answer("b", rev(11));
    await page.shows("b");
    expect(page.report).toMatchObject({ need: rev(11), have: rev(11), fresh: true, phase: "resting" });
  });

  test("registered above what it has, reads again", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    page.source.ready(rev(12), [topic]);
    const again = await page.next();
    expect(again.atLeast).toBe(rev(12));
    again.answer("b", rev(12));
    await page.shows("b");
  });

  // F27, TanStack's issue 8530.
  test("an invalidation during the first fetch: one more, and the old answer is never rendered", async () => {
    page.mount(<One />);
    const first = await page.next();
    page.source.invalidate(rev(12), topic);
    first.answer("old", rev(11));
    const second = await page.next();
    expect(second.atLeast).toBe(rev(12));
    second.answer("new", rev(12));
    await page.shows("new");
    await page.soon();
    expect(page.rendered).toEqual(["new"]);
    expect(page.api.reads.all).toHaveLength(2);
  });

  // F28.
  test("100 events during one refetch: two fetches in all, the last at the last event", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    page.source.invalidate(rev(11), topic);
    const refetch = await page.next();
    for (let n = 12; n <= 111; n++) page.source.invalidate(rev(n), topic);
    refetch.answer("old", rev(11));
    const last = await page.next();
    expect(last.atLeast).toBe(rev(111));
    last.answer("new", rev(111));
    await page.shows("new");
    await page.soon();
    expect(page.rendered).toEqual(["a", "new"]);
    expect(page.api.reads.all).toHaveLength(3);
  });

  test("a stream of changes can't starve the reader", async () => {
    page.mount(<One />);
    let at = 10;
    for (let n = 0; n < 8; n++) {
      const read = await page.next();
      const answered = ++at;
      page.source.invalidate(rev(answered), topic); // while it is under way, each time
      read.answer(`at ${answered - 1}`, rev(answered - 1));
      await page.soon();
    }
    expect(page.rendered.length).toBeGreaterThan(2);
    (await page.next()).answer("end", rev(at));
    await page.shows("end");
    expect([...page.rendered]).toEqual([...new Set(page.rendered)]);
  });

  // F29.
  test("cancelRefetch: the older answer arrives last, and is not shown", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    void page.queryClient.invalidateQueries();
    const older = await page.next();
    page.source.invalidate(rev(12), topic);
    void page.queryClient.invalidateQueries();
    const newer = await page.next();
    newer.answer("new", rev(12));
    await page.shows("new");
    older.answer("old", rev(11));
    await page.soon();
    expect(page.rendered).toEqual(["a", "new"]);
    expect(page.report).toMatchObject({ have: rev(12), fresh: true });
  });

  test("a read that was called off is not asked again when a notice overtakes it", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    void page.queryClient.invalidateQueries();
    const older = await page.next();
    void page.queryClient.invalidateQueries();
    const newer = await page.next();
    page.source.invalidate(rev(14), topic);
    older.answer("old", rev(13));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    newer.answer("new", rev(14));
    await page.shows("new");
    expect(page.rendered).toEqual(["a", "new"]);
  });

  test("a frontier says nothing of topics that aren't followed yet", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    page.source.frontier(rev(20));
    expect(page.report.have).toBe(rev(10));
    page.source.caughtUp.add(topic);
    page.source.frontier(rev(21));
    expect(page.report.have).toBe(rev(21));
  });

  test("fetchQuery with a staleTime does not answer from a cache that was overtaken", async () => {
    const options = createQueryOptions(list, { parent }, { transport: page.transport });
    const get = () => page.queryClient.fetchQuery({ ...options, staleTime: Infinity });
    const first = get();
    (await page.next()).answer("a", rev(10));
    await first;
    page.source.invalidate(rev(11), topic);
    const second = get();
    (await page.next()).answer("b", rev(11));
    expect((await second).messages[0]?.body).toBe("b");
  });

  test("offline, a fetch waits as it does without a persister", async () => {
    onlineManager.setOnline(false);
    page.mount(<One />);
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    onlineManager.setOnline(true);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
  });

  test("an answer older than what is held is not shown", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(20));
    await page.shows("a");
    void page.queryClient.refetchQueries();
    (await page.next()).answer("old", rev(15)); // a node that ignores at-least
    await page.soon();
    expect(page.rendered).toEqual(["a"]);
    expect(page.report.have).toBe(rev(20));
  });

  test("not found, then created", async () => {
    page.mount(<One />);
    (await page.next()).fail(Code.NotFound, rev(10));
    await page.shows("error: 5");
    page.source.ready(rev(10));
    await page.soon();
    expect(page.api.reads.left).toBe(0); // an error that answers is not asked for again
    page.source.invalidate(rev(11), topic);
    (await page.next()).answer("a", rev(11));
    await page.shows("a");
  });

  test("unavailable is no answer, whatever its stamp: asked again with the next heartbeat", async () => {
    page.mount(<One />);
    const first = await page.next();
    page.source.ready(rev(10));
    first.fail(Code.Unavailable, rev(10));
    await page.shows("error: 14");
    await vi.waitFor(() => expect(page.report.phase).toBe("pausing"));
    page.source.frontier(rev(10));
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
  });

  test("unavailable with RetryInfo waits for as long as it says", async () => {
    page.mount(<One />);
    const first = await page.next();
    page.source.ready(rev(10));
    first.fail(Code.Unavailable, undefined, [retryInfo(1)]);
    await page.shows("error: 14");
    const failed = Date.now();
    page.source.frontier(rev(10));
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    (await page.next()).answer("a", rev(10));
    expect(Date.now() - failed).toBeGreaterThanOrEqual(900);
    await page.shows("a");
  });

  test("an answer equal to the one held still raises have", async () => {
    page.mount(<One />);
    (await page.next()).answer("same", rev(10));
    await page.shows("same");
    const before = page.queryClient.getQueryCache().getAll()[0]!.state.data;
    page.source.invalidate(rev(11), topic);
    (await page.next()).answer("same", rev(11));
    await vi.waitFor(() => expect(page.report).toMatchObject({ have: rev(11), fresh: true }));
    expect(page.queryClient.getQueryCache().getAll()[0]!.state.data).toBe(before);
    await page.soon();
    expect(page.api.reads.left).toBe(0);
  });

  // F31.
  test("unmounted, invalidated, mounted again with staleTime Infinity: fetches", async () => {
    const view = page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    view.unmount();
    page.source.invalidate(rev(11), topic);
    await page.soon();
    expect(page.api.reads.left).toBe(0); // nobody watches: it is only marked
    expect([...page.source.topics]).toEqual([topic]); // but followed
    page.mount(<One />);
    const again = await page.next();
    expect(again.atLeast).toBe(rev(11));
    again.answer("b", rev(11));
    await page.shows("b");
    await page.soon();
    expect(page.api.reads.all).toHaveLength(2);
  });

  test("unmounted with refetchOnMount: false fetches as well", async () => {
    function Lazy() {
      const { data } = useQuery(list, { parent }, { refetchOnMount: false });
      return page.show(data?.messages[0]?.body);
    }
    const view = page.mount(<Lazy />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    view.unmount();
    page.source.invalidate(rev(11), topic);
    page.mount(<Lazy />);
    (await page.next()).answer("b", rev(11));
    await page.shows("b");
  });

  test("without a stream reads strongly", async () => {
    page.source.lose();
    page.mount(<One />);
    const read = await page.next();
    expect(read.atLeast).toBeNull();
    read.answer("a", rev(10));
    await page.shows("a");
  });
});

// F34.
// F35.
describe("a stamp that can't be read", () => {
  for (const [what, stamp] of [
    ["doubled", `${rev(12)}, ${rev(12)}`],
    ["upper case", rev(0xab).toUpperCase()],
    ["a number", "12"],
    ["missing", null],
  ] as const) {
    test(`(${what}) counts as unknown: few refetches, further and further apart`, async () => {
      vi.useFakeTimers();
      const observer = new QueryObserver(page.queryClient, createQueryOptions(list, { parent }, { transport: page.transport }) as never);
      observer.subscribe(() => {});
      let answered = 0;
      const answerAll = async (ms: number) => {
        for (const end = Date.now() + ms; Date.now() < end; ) {
          while (page.api.reads.left > 0) (await page.api.reads.next()).answer(`${answered++}`, stamp);
          await vi.advanceTimersByTimeAsync(10);
        }
      };
      await answerAll(100);
      page.source.ready(rev(10), [topic]);
      page.source.invalidate(rev(12), topic);
      await answerAll(100);
      expect(answered).toBeLessThanOrEqual(4);
      await answerAll(10_000);
      expect(answered).toBeLessThanOrEqual(10);
      await answerAll(300_000);
      expect(answered).toBeLessThanOrEqual(25); // every 30 s or more
      observer.destroy();
    });
  }

  test("a server that stays below what it announced makes no loop", async () => {
    vi.useFakeTimers();
    page.source.lose(); // strong reads, too
    const observer = new QueryObserver(page.queryClient, createQueryOptions(list, { parent }, { transport: page.transport }) as never);
    observer.subscribe(() => {});
    let answered = 0;
    page.source.ready(rev(30), [topic]);
    page.source.lose();
    for (let ms = 0; ms < 60_000; ms += 10) {
      while (page.api.reads.left > 0) (await page.api.reads.next()).answer(`${answered++}`, rev(5));
      await vi.advanceTimersByTimeAsync(10);
      if (ms === 1000) page.source.ready(rev(30), [topic]);
      if (ms === 2000) page.source.lose();
    }
    expect(answered).toBeGreaterThan(2);
    expect(answered).toBeLessThanOrEqual(14);
    observer.destroy();
  });

  test("back-off ends with the next heartbeat", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", null);
    await page.shows("a");
    page.source.ready(rev(10), [topic]);
    (await page.next()).answer("b", null);
    (await page.next()).answer("c", null);
    await page.shows("c");
    expect(page.report.phase).toBe("pausing");
    page.source.frontier(rev(13));
    (await page.next()).answer("d", rev(13));
    await page.shows("d");
    expect(page.report).toMatchObject({ phase: "resting", have: rev(13) });
  });
});

// A topic that the caller may not follow has the stream of all others refused.
describe("a query that is denied", () => {
  test("isn't followed, until it is answered", async () => {
    page.mount(<One />);
    expect((await page.next()).atLeast).toBe(rev(10));
    expect([...page.source.topics]).toEqual([topic]);
    page.api.reads.all.at(-1)!.fail(Code.PermissionDenied);
    await page.shows(`error: ${Code.PermissionDenied}`);
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([]));
    page.source.invalidate(rev(11), topic); // of somebody else's
    await page.soon();
    expect(page.api.reads.left).toBe(0);

    void page.queryClient.refetchQueries();
    const again = await page.next();
    expect([...page.source.topics]).toEqual([]);
    again.answer("a", rev(12));
    await page.shows("a");
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([topic]));
    page.source.ready(rev(13), [topic]);
    (await page.next()).answer("b", rev(13));
    await page.shows("b");
  });

  test("that no topics were declared of, too", async () => {
    page.queries.close();
    const queries = bindQueries({ freshet: page.source, queryClient: page.queryClient });
    page.mount(<One />);
    (await page.next()).fail(Code.PermissionDenied);
    await page.shows(`error: ${Code.PermissionDenied}`);
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([]));
    void page.queryClient.refetchQueries();
    (await page.next()).answer("a", rev(12));
    await page.shows("a");
    await vi.waitFor(() => expect([...page.source.topics]).toEqual([topic]));
    queries.close();
  });

  test("after another error it is followed on", async () => {
    page.mount(<One />);
    (await page.next()).fail(Code.NotFound, rev(10));
    await page.shows(`error: ${Code.NotFound}`);
    await page.soon();
    expect([...page.source.topics]).toEqual([topic]);
  });
});
