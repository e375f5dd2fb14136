import { create } from "@bufbuild/protobuf";
import { createClient, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { addStaticKeyToTransport, createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, hydrate, InfiniteQueryObserver, QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import type { Revision } from "../src/revision.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { BoardService, GetBoardResponseSchema } from "./gen/boards/v1/boards_pb.js";
import { Queue, rev } from "./server.js";

// Rule 8: what a query depends on changes with the answer that it keeps.

/** A read of a board that waits for the test to answer it. */
interface Read {
  readonly board: bigint;
  readonly atLeast: string | null;
  /** With these tasks, each with a comment that has its id. */
  answer(stamp: Revision, ...tasks: number[]): void;
}

class Page {
  readonly source = new FakeSource();
  readonly reads = new Queue<Read>();
  readonly queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  readonly queries: Queries;
  readonly transport;

  constructor() {
    this.source.ready(rev(10));
    const { source, queryClient } = this;
    this.queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(BoardService) });
    const router = createRouterTransport(({ service }) =>
      service(BoardService, {
        getBoard: ({ board }, context: HandlerContext) =>
          new Promise((resolve) => {
            this.reads.push({
              board,
              atLeast: context.requestHeader.get("freshet-at-least"),
              answer: (stamp, ...tasks) => {
                context.responseHeader.set("freshet-revision", stamp);
                const of = (id: number) => ({ id: BigInt(id), comments: [{ id: BigInt(id) }] });
                resolve(create(GetBoardResponseSchema, { tasks: tasks.map(of) }));
              },
            });
          }),
      }),
    );
    this.transport = freshetTransport(source, router);
  }

  /** By connect-query's key, or by a function of the page's own, which tells nothing. */
  mount(own: boolean): void {
    const options = own
      ? {
          queryKey: ["board"],
          queryFn: ({ signal }: { signal: AbortSignal }) =>
            createClient(BoardService, this.transport).getBoard({ board: 1n }, { signal }),
          structuralSharing: (a: unknown, b: unknown) => (JSON.stringify(a, text) === JSON.stringify(b, text) ? a : b),
        }
      : createQueryOptions(
          BoardService.method.getBoard,
          { board: 1n },
          { transport: addStaticKeyToTransport(this.transport, "api") },
        );
    new QueryObserver(this.queryClient, options as never).subscribe(() => {});
  }

  close(): void {
    this.queries.close();
    this.queryClient.clear();
  }

  get report() {
    return this.queries.report()[0]!;
  }

  /** Until the stream is asked to follow these, and no others. */
  async follows(...topics: string[]): Promise<void> {
    await vi.waitFor(() => expect([...this.source.topics].sort()).toEqual([...topics].sort()));
  }

  async idle(): Promise<void> {
    await vi.waitFor(() => expect(this.queryClient.isFetching()).toBe(0));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(this.queryClient.isFetching()).toBe(0);
  }
}

function text(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}

const board = "boards/1/tasks";
const of = (...tasks: number[]) => tasks.flatMap((id) => [`tasks/${id}/comments`, `comments/${id}/reactions`]);

let page: Page;
beforeEach(() => {
  page = new Page();
});
afterEach(() => page.close());

describe.each([
  ["connect-query", false],
  ["a query function", true],
])("%s", (_, own) => {
  test("its topics are those of the answer, since its stamp", async () => {
    page.mount(own);
    const first = await page.reads.next();
    await page.follows(board);
    page.source.ready(rev(10), [board]);
    first.answer(rev(12), 7, 8);
    await page.follows(board, ...of(7, 8));
    for (const topic of of(7, 8)) expect(page.source.sinceOf(topic)).toBe(rev(12));
    expect(page.report.topics).toEqual([board, "tasks/7/comments", "tasks/8/comments", "comments/7/reactions", "comments/8/reactions"]);
    for (const topic of of(7, 8)) page.source.caughtUp.add(topic);
    page.source.invalidate(rev(13), "comments/7/reactions");
    const second = await page.reads.next();
    expect(second.atLeast).toBe(rev(13));
    await page.follows(board, ...of(7, 8)); // a refetch forgets nothing
    second.answer(rev(13), 8);
    await page.follows(board, ...of(8));
    await page.idle();
  });

  test("no frame raises have until all of them are followed", async () => {
    page.mount(own);
    const first = await page.reads.next();
    await page.follows(board);
    page.source.ready(rev(10), [board]);
    first.answer(rev(12), 7);
    await page.follows(board, ...of(7));
    page.source.frontier(rev(20));
    expect(page.report.have).toBe(rev(12));
    for (const topic of of(7)) page.source.caughtUp.add(topic);
    page.source.frontier(rev(21));
    expect(page.report.have).toBe(rev(21));
  });

  test("what was told of a topic before the answer that has it is needed", async () => {
    page.mount(own);
    const first = await page.reads.next();
    await page.follows(board);
    page.source.ready(rev(10), [board]);
    first.answer(rev(12), 7);
    await page.follows(board, ...of(7));
    // Another query follows task 9, and hears of it.
    const other = createQueryOptions(
      BoardService.method.getBoard,
      { board: 2n },
      { transport: addStaticKeyToTransport(page.transport, "api") },
    );
    new QueryObserver(page.queryClient, other as never).subscribe(() => {});
    (await page.reads.next()).answer(rev(12), 9);
    await page.follows(board, "boards/2/tasks", ...of(7, 9));
    page.source.invalidate(rev(14), board);
    const moved = await page.reads.next();
    page.source.invalidate(rev(15), "tasks/9/comments");
    (await page.reads.next()).answer(rev(15), 9); // the other's
    moved.answer(rev(14), 7, 9); // and an answer from between the two
    const again = await page.reads.next();
    expect([again.board, again.atLeast]).toEqual([1n, rev(15)]);
    again.answer(rev(15), 7, 9);
    await page.idle();
  });
});

test("pages: topics of all, and of one more", async () => {
  const observer = new InfiniteQueryObserver(page.queryClient, {
    queryKey: ["boards"],
    initialPageParam: 1n,
    queryFn: ({ signal, pageParam }) =>
      createClient(BoardService, page.transport).getBoard({ board: pageParam as bigint }, { signal }),
    getNextPageParam: (_last, all) => BigInt(all.length + 1),
  });
  observer.subscribe(() => {});
  (await page.reads.next()).answer(rev(11), 1);
  await page.follows(board, ...of(1));
  void observer.fetchNextPage();
  (await page.reads.next()).answer(rev(11), 2);
  await page.follows(board, "boards/2/tasks", ...of(1, 2));
  for (const topic of page.source.topics) page.source.caughtUp.add(topic);
  page.source.invalidate(rev(12), "tasks/1/comments");
  (await page.reads.next()).answer(rev(12));
  (await page.reads.next()).answer(rev(12), 3);
  await page.follows(board, "boards/2/tasks", ...of(3));
});

test("a store brings them back, with the stamp", async () => {
  page.mount(false);
  (await page.reads.next()).answer(rev(12), 7);
  await page.follows(board, ...of(7));
  const state: unknown = JSON.parse(JSON.stringify(dehydrate(page.queryClient), text));
  page.close();
  page = new Page();
  hydrate(page.queryClient, state as never);
  page.mount(false);
  await page.follows(board, ...of(7));
  expect(page.source.sinceOf("comments/7/reactions")).toBe(rev(12));
});
