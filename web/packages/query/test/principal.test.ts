import { create } from "@bufbuild/protobuf";
import { createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { addStaticKeyToTransport, createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, hashKey, hydrate, MutationObserver, QueryClient, QueryObserver, type DehydratedState } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import type { Revision } from "../src/revision.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { ListNotesResponseSchema, NoteService, type ListNotesResponse } from "./gen/orgs/v1/orgs_pb.js";
import { Queue, rev } from "./server.js";

// Topics that take claims of the caller: an answer says whose it is.

interface Read {
  readonly atLeast: string | null;
  /** As somebody of the organization is answered; undefined: it isn't said of whom. */
  answer(stamp: Revision, org: string | undefined, ...notes: number[]): void;
}

class Page {
  readonly source = new FakeSource();
  readonly reads = new Queue<Read>();
  readonly queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  readonly queries: Queries;
  readonly options;

  constructor() {
    this.source.ready(rev(10));
    const { source, queryClient } = this;
    this.queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(NoteService) });
    const router = createRouterTransport(({ service }) =>
      service(NoteService, {
        listNotes: (_, context: HandlerContext) =>
          new Promise((resolve) => {
            this.reads.push({
              atLeast: context.requestHeader.get("freshet-at-least"),
              answer: (stamp, org, ...notes) => {
                context.responseHeader.set("freshet-revision", stamp);
                if (org) context.responseHeader.set("freshet-principal", `org_id=${org}`);
                resolve(create(ListNotesResponseSchema, { notes: notes.map((id) => ({ id: BigInt(id), text: org ?? "" })) }));
              },
            });
          }),
      }),
    );
    const transport = addStaticKeyToTransport(freshetTransport(source, router), "api");
    this.options = createQueryOptions(NoteService.method.listNotes, {}, { transport });
  }

  mount(options: object = {}): void {
    new QueryObserver(this.queryClient, { ...this.options, ...options } as never).subscribe(() => {});
  }

  close(): void {
    this.queries.close();
    this.queryClient.clear();
  }

  get shown(): ListNotesResponse | undefined {
    return this.queryClient.getQueryData(this.options.queryKey) as ListNotesResponse | undefined;
  }

  async follows(...topics: string[]): Promise<void> {
    await vi.waitFor(() => expect(this.queries.report()[0]?.topics).toEqual(topics));
  }
}

describe("topics that take claims", () => {
  let page: Page;
  beforeEach(() => (page = new Page()));
  afterEach(() => page.close());

  test("are those that the answer says", async () => {
    page.mount();
    (await page.reads.next()).answer(rev(20), "of%20acme", 7);
    await page.follows("orgs/of%20acme/notes", "orgs/of%20acme/notes/7/tags");
    page.source.invalidate(rev(30), "orgs/of%20acme/notes/7/tags");
    const again = await page.reads.next();
    expect(again.atLeast).toBe(rev(30));
    again.answer(rev(30), "of%20acme", 7, 8);
    await page.follows("orgs/of%20acme/notes", "orgs/of%20acme/notes/7/tags", "orgs/of%20acme/notes/8/tags");
    expect(page.source.warnings).toEqual([]); // the claim fills the template
  });

  test("G8: change with another token, and what was under way is dropped", async () => {
    page.mount();
    (await page.reads.next()).answer(rev(20), "acme", 7);
    await page.follows("orgs/acme/notes", "orgs/acme/notes/7/tags");
    page.source.invalidate(rev(30), "orgs/acme/notes");
    const early = await page.reads.next();
    page.source.renew();
    early.answer(rev(40), "acme", 7, 8); // sent with the token before
    (await page.reads.next()).answer(rev(40), "globex", 9);
    await page.follows("orgs/globex/notes", "orgs/globex/notes/9/tags");
    expect(page.shown?.notes.map(({ text }) => text)).toEqual(["globex"]);
    expect(page.reads.all).toHaveLength(3);
  });

  test("are read again at-least what was held, when there is another token", async () => {
    page.mount();
    (await page.reads.next()).answer(rev(20), "acme", 7);
    await page.follows("orgs/acme/notes", "orgs/acme/notes/7/tags");
    page.source.renew();
    const again = await page.reads.next();
    expect(again.atLeast && again.atLeast >= rev(20)).toBe(true);
    expect(page.shown?.notes[0]?.text).toBe("acme"); // on show meanwhile
    again.answer(rev(20), "acme", 7);
    await vi.waitFor(() => expect(page.queries.report()[0]?.have).toBeDefined());
    expect(page.reads.all).toHaveLength(2);
  });

  test("a first answer that was asked for with the token before isn't shown", async () => {
    page.mount();
    const early = await page.reads.next();
    page.source.renew();
    early.answer(rev(20), "acme", 7);
    (await page.reads.next()).answer(rev(20), "globex", 9);
    await page.follows("orgs/globex/notes", "orgs/globex/notes/9/tags");
    expect(page.shown?.notes[0]?.text).toBe("globex");
  });

  test("an answer that doesn't say them is an error", async () => {
    page.mount();
    (await page.reads.next()).answer(rev(20), undefined, 7);
    await vi.waitFor(() => expect(page.queryClient.getQueryState(page.options.queryKey)?.error).toMatchObject({ name: "CallerError" }));
    expect(page.shown).toBeUndefined();
  });

  // Data that no answer of this page has brought names nothing to follow.
  describe("and nobody knows, of data that came from elsewhere", () => {
    const seed = create(ListNotesResponseSchema, { notes: [{ id: 1n, text: "seed" }] });
    const set = (data = seed) => page.queryClient.setQueryData(page.options.queryKey, data as never);

    /** It is read once, and followed from then on. */
    async function isRead(): Promise<void> {
      const read = await page.reads.next();
      expect(page.shown?.notes[0]?.text).toBe("seed"); // on show meanwhile
      read.answer(rev(20), "acme", 7);
      await page.follows("orgs/acme/notes", "orgs/acme/notes/7/tags");
      page.source.invalidate(rev(30), "orgs/acme/notes");
      (await page.reads.next()).answer(rev(30), "acme", 7);
      await vi.waitFor(() => expect(page.queries.report()[0]?.have).toBe(rev(30)));
      expect(page.reads.all).toHaveLength(2);
    }

    test("initialData is read when it is mounted", async () => {
      page.mount({ initialData: seed, refetchOnMount: false });
      await isRead();
    });

    test("setQueryData is, too", async () => {
      set();
      page.mount({ refetchOnMount: false });
      await isRead();
    });

    test("setQueryData of a mutation is, once that is over", async () => {
      let end!: () => void;
      const gate = new Promise<void>((resolve) => (end = resolve));
      const mutation = new MutationObserver(page.queryClient, { mutationFn: () => gate }).mutate();
      set();
      end();
      await mutation;
      page.mount({ refetchOnMount: false });
      await isRead();
    });

    test("what is hydrated is, too", async () => {
      const { queryKey } = page.options;
      const state = { queries: [{ queryKey, queryHash: hashKey(queryKey), state: { data: seed, dataUpdatedAt: Date.now(), status: "success" } }], mutations: [] };
      hydrate(page.queryClient, state as never);
      page.mount({ refetchOnMount: false });
      await isRead();
    });

    test("one that fails is tried again", async () => {
      page.mount({ initialData: seed });
      (await page.reads.next()).answer(rev(20), undefined, 7); // a CallerError
      const again = await page.reads.next();
      again.answer(rev(20), "acme", 7);
      await page.follows("orgs/acme/notes", "orgs/acme/notes/7/tags");
    });

    test("none that nobody shows, and none that is meant to have no topics", async () => {
      page.mount({ initialData: seed, enabled: false });
      page.mount({ initialData: seed, meta: { topics: [] }, queryKey: [...(page.options.queryKey as readonly unknown[]), "other"] });
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(page.reads.all).toEqual([]);
    });
  });

  test("come out of no store: nobody knows who will call", async () => {
    page.mount();
    (await page.reads.next()).answer(rev(20), "acme", 7);
    await page.follows("orgs/acme/notes", "orgs/acme/notes/7/tags");
    const state = JSON.parse(JSON.stringify(dehydrate(page.queryClient), (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))) as DehydratedState;
    expect(JSON.stringify(state)).not.toContain("orgs/acme");
    const later = new Page();
    hydrate(later.queryClient, state);
    expect(later.queries.report().flatMap(({ topics }) => topics)).toEqual([]);
    later.close();
  });
});
