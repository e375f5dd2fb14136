// @vitest-environment happy-dom
import { createQueryOptions } from "@connectrpc/connect-query";
import { InfiniteQueryObserver, isCancelledError, QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import { AlreadyBoundError, bindQueries, type Queries } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { MessageApi, MessageService, parent, topic, type Read } from "./message-api.js";
import { rev } from "./server.js";

// F79: a fetch that is never answered is called off, and tried again.

const list = MessageService.method.listMessages;
let source: FakeSource;
let api: MessageApi;
let queryClient: QueryClient;
let queries: Queries;
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  source = new FakeSource();
  source.ready(rev(10));
  api = new MessageApi();
  queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
});
afterEach(() => {
  queries.close();
  queryClient.clear();
  vi.useRealTimers();
});

function bind(flightTimeoutMs?: number): void {
  queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(MessageService), flightTimeoutMs });
}

async function next(): Promise<Read> {
  await pass(1);
  expect(api.reads.left).toBeGreaterThan(0);
  return api.reads.next();
}

const report = () => queries.report()[0]!;

describe("F79: no answer", () => {
  const mount = () => {
    const transport = freshetTransport(source, api.transport);
    const observer = new QueryObserver(queryClient, createQueryOptions(list, { parent }, { transport }) as never);
    observer.subscribe(() => {});
    return observer;
  };

  test("to a refetch: called off after 32 s, counted as a failure, asked again", async () => {
    bind();
    const observer = mount();
    (await next()).answer("a", rev(10));
    await pass(1);
    source.invalidate(rev(11), topic);
    await next(); // has no answer
    await pass(31_900);
    expect(report().phase).toBe("flying");
    expect(api.reads.left).toBe(0);
    await pass(200);
    expect(report()).toMatchObject({ phase: "pausing", have: rev(10), fresh: false });
    expect(isCancelledError(observer.getCurrentResult().error)).toBe(true);
    await pass(500);
    const again = await next();
    expect(again.atLeast).toBe(rev(11));
    again.answer("b", rev(11));
    await pass(1);
    expect(report()).toMatchObject({ have: rev(11), fresh: true });
    expect(observer.getCurrentResult().error).toBeNull();
    observer.destroy();
  });

  test("to a first fetch, with a bound of one's own", async () => {
    bind(1000);
    const observer = mount();
    await next(); // has no answer
    source.ready(rev(10));
    await pass(1500);
    (await next()).answer("a", rev(10));
    await pass(1);
    expect(report()).toMatchObject({ have: rev(10), fresh: true });
    observer.destroy();
  });

  test("the time runs anew with each page, and stands still between retries", async () => {
    bind(1000);
    const transport = freshetTransport(source, api.transport);
    const observer = new InfiniteQueryObserver(queryClient, {
      queryKey: ["pages"],
      queryFn: async ({ signal, pageParam }) => {
        const read = transport.unary(list, signal, undefined, undefined, { parent, pageToken: pageParam });
        return (await read).message as { nextPageToken: string };
      },
      initialPageParam: "",
      getNextPageParam: ({ nextPageToken }) => nextPageToken || undefined,
      retry: 1,
      retryDelay: 5000,
    });
    observer.subscribe(() => {});
    (await next()).answer("1", rev(10), "2");
    await pass(1);
    void observer.fetchNextPage();
    (await next()).answer("2", rev(10));
    await pass(1);
    source.invalidate(rev(11), topic);
    const first = await next();
    await pass(900);
    first.answer("1'", rev(11), "2");
    const second = await next();
    await pass(900);
    second.fail(14);
    await pass(5000);
    const retried = await next();
    expect(retried.pageToken).toBe("2");
    retried.answer("2'", rev(11));
    await pass(1);
    expect(report()).toMatchObject({ have: rev(11), fresh: true });
    observer.destroy();
  });

  test("a query that Freshet doesn't follow is left alone", async () => {
    bind(1000);
    const observer = new QueryObserver(queryClient, {
      queryKey: ["long"],
      queryFn: () => new Promise((resolve) => setTimeout(resolve, 5000, "done")),
    });
    observer.subscribe(() => {});
    await pass(5001);
    expect(observer.getCurrentResult().data).toBe("done");
    observer.destroy();
  });

  test("closed with a fetch under way: nothing is called off", async () => {
    bind(1000);
    const observer = mount();
    const read = await next();
    queries.close();
    await pass(2000);
    read.answer("a", rev(10));
    await pass(1);
    expect(observer.getCurrentResult().status).toBe("success");
    observer.destroy();
  });
});

describe("default options", () => {
  test("set after the binding keep the queries live", async () => {
    bind();
    queryClient.setDefaultOptions({ queries: { ...queryClient.getDefaultOptions().queries, gcTime: 7 } });
    queryClient.setDefaultOptions({ queries: { retry: 2, staleTime: 5 } });
    expect(queryClient.getDefaultOptions().queries).toMatchObject({ retry: 2, staleTime: 5, networkMode: "online" });
    const transport = freshetTransport(source, api.transport);
    const observer = new QueryObserver(queryClient, createQueryOptions(list, { parent }, { transport }) as never);
    observer.subscribe(() => {});
    (await next()).answer("a", rev(10));
    await pass(1);
    expect(report()).toMatchObject({ have: rev(10), fresh: true });
    observer.destroy();
    queries.close();
    expect(queryClient.getDefaultOptions()).toEqual({ queries: { retry: 2, staleTime: 5 } });
  });

  test("made of those that the binding gave don't keep it after it was closed", () => {
    bind();
    queryClient.setDefaultOptions({ ...queryClient.getDefaultOptions(), mutations: { retry: 1 } });
    queries.close();
    expect(queryClient.getDefaultOptions().queries?.persister).toBeUndefined();
    queryClient.setDefaultOptions({});
    expect(queryClient.getDefaultOptions()).toEqual({});
  });

  test("one binding at a time", () => {
    bind();
    const first = queries;
    expect(() => bind()).toThrow(AlreadyBoundError);
    first.close();
    bind();
  });
});
