import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { freshetFetch } from "../../packages/query/src/fetch.js";
import { bindQueries, type AnyQueryClient, type Queries } from "../../packages/query/src/tanstack.js";
import { FakeSource } from "../../packages/query/test/fake-source.js";
import { Queue, rev } from "../../packages/query/test/server.js";

/** What `queryOptions` of each framework's adapter takes. */
export interface PlainOptions {
  queryKey: string[];
  queryFn: (context: { signal: AbortSignal }) => Promise<string>;
  meta: { topics: string[] };
}

/** A component that shows the query's data, by a framework's own adapter. */
export interface Mounted {
  unmount(): void | Promise<void>;
}

/** What a framework has to bring. */
export interface Framework<Client extends AnyQueryClient & { clear(): void }> {
  newClient(): Client;
  /** Calls show with the data, or undefined while there is none, whenever it renders. */
  mount(client: Client, options: PlainOptions, show: (data: string | undefined) => void): Mounted;
}

/** A read that waits for the test to answer it. */
interface Read {
  readonly atLeast: string | null;
  answer(body: string, stamp: string): void;
}

const topic = "projects/7/tasks";

/** What holds whichever framework renders: the binding is of the QueryClient, below all of them. */
export function behaves<Client extends AnyQueryClient & { clear(): void }>(framework: Framework<Client>): void {
  let source: FakeSource;
  let reads: Queue<Read>;
  let client: Client;
  let queries: Queries;
  let shown: string[];
  let options: PlainOptions;
  let mounted: Mounted[];

  const mount = () => {
    const one = framework.mount(client, options, (data) => {
      if (data !== undefined && shown.at(-1) !== data) shown.push(data);
    });
    mounted.push(one);
    return one;
  };
  const shows = (body: string) => vi.waitFor(() => expect(shown.at(-1)).toBe(body));

  beforeEach(() => {
    source = new FakeSource();
    source.ready(rev(10));
    reads = new Queue();
    shown = [];
    mounted = [];
    client = framework.newClient();
    queries = bindQueries({ freshet: source, queryClient: client });
    const fetch = freshetFetch(source, (_input, init) => {
      return new Promise((resolve) => {
        reads.push({
          atLeast: new Headers(init?.headers).get("freshet-at-least"),
          answer: (body, stamp) => resolve(new Response(body, { headers: { "freshet-revision": stamp } })),
        });
      });
    });
    options = {
      queryKey: ["tasks", "7"],
      queryFn: async ({ signal }) => (await fetch("http://localhost/tasks", { signal })).text(),
      meta: { topics: [topic] },
    };
  });
  afterEach(async () => {
    for (const one of mounted) await one.unmount();
    queries.close();
    client.clear();
  });

  test("a notice refetches at least its revision, and nothing else does", async () => {
    mount();
    (await reads.next()).answer("first", rev(10));
    await shows("first");
    source.invalidate(rev(12), topic);
    const second = await reads.next();
    expect(second.atLeast).toBe(rev(12));
    second.answer("second", rev(12));
    await shows("second");
    source.invalidate(rev(13), "projects/8/tasks");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(reads.left).toBe(0);
    expect(shown).toEqual(["first", "second"]);
  });

  test("an answer that a notice overtook is never shown", async () => {
    mount();
    const first = await reads.next();
    source.invalidate(rev(12), topic);
    first.answer("old", rev(11));
    const second = await reads.next();
    expect(second.atLeast).toBe(rev(12));
    second.answer("new", rev(12));
    await shows("new");
    expect(shown).toEqual(["new"]);
  });

  test("two components share a read; when both are gone, no notice fetches", async () => {
    mount();
    mount();
    (await reads.next()).answer("first", rev(10));
    await shows("first");
    expect(reads.left).toBe(0);
    for (const one of mounted) await one.unmount();
    await vi.waitFor(() => expect(queries.report()[0]?.watched).toBe(false));
    source.invalidate(rev(12), topic);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(reads.left).toBe(0);
    mount(); // and who comes back reads
    const again = await reads.next();
    expect(again.atLeast).toBe(rev(12));
    again.answer("second", rev(12));
    await shows("second");
  });

  test("closed, the client is as it was", async () => {
    mount();
    (await reads.next()).answer("first", rev(10));
    await shows("first");
    queries.close();
    source.invalidate(rev(12), topic);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(reads.left).toBe(0);
  });
}
