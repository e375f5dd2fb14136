// @vitest-environment happy-dom
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { createQueryOptions, useInfiniteQuery, useMutation, useQuery } from "@connectrpc/connect-query";
import { keepPreviousData, MutationObserver, onlineManager, useMutation as useTanstackMutation, useQuery as useTanstackQuery, type MutationObserverOptions } from "@tanstack/react-query";
import { useState } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ListMessagesResponseSchema, type ListMessagesResponse } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { AccountChangedError } from "../src/errors.js";
import { freshetFetch } from "../src/fetch.js";
import { MessageService, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

describe("a change of account", () => {
  let page: Page;
  beforeEach(() => (page = new Page()));
  afterEach(() => page.close());

  function One() {
    const { data, error } = useQuery(list, { parent });
    return page.show(error ? `error: ${error.message}` : (data?.messages[0]?.body ?? (data ? "" : "loading")));
  }
  function Many() {
    const { data } = useInfiniteQuery(list, { parent, pageToken: "" }, { pageParamKey: "pageToken", getNextPageParam: () => undefined });
    return page.show(data?.pages[0]?.messages[0]?.body ?? "loading");
  }

  test.each([["a query", One], ["an infinite one", Many]])("empties %s at once, and reads it as the next one", async (_name, Component) => {
    page.mount(<Component />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    page.source.changeAccount();
    await page.shows("loading");
    const read = await page.next();
    expect(read.atLeast).toBeNull(); // strongly: what was told was told to another
    read.answer("grace's", rev(9)); // a stamp below that of the other's is none of its business
    await page.shows("grace's");
    expect(page.rendered).toEqual(["loading", "ada's", "loading", "grace's"]);
    page.source.ready(rev(11));
    (await page.next()).answer("grace's, newer", rev(11));
    await page.shows("grace's, newer"); // it is followed again
  });

  test("drops what was under way, whenever it comes", async () => {
    page.mount(<One />);
    const first = await page.next();
    page.source.invalidate(rev(15), topic); // told to ada
    page.source.changeAccount();
    const second = await page.next();
    first.answer("ada's", rev(12));
    await page.soon();
    second.answer("grace's", rev(11));
    await page.shows("grace's");
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    expect(page.report).toMatchObject({ need: undefined, have: rev(11) });
    expect(page.rendered).toEqual(["loading", "grace's"]);

    page.source.ready(rev(13));
    const refetch = await page.next();
    page.source.changeAccount();
    const third = await page.next();
    third.answer("bob's", rev(13));
    await page.shows("bob's");
    refetch.answer("grace's, newer", rev(14));
    await page.soon();
    expect(page.rendered.at(-1)).toBe("bob's");
  });

  test("drops what nobody shows, what is persisted with it, and who waits for it", async () => {
    const { unmount } = page.mount(<One />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    unmount();
    const waiting = page.queryClient.fetchQuery({ queryKey: ["other"], queryFn: () => new Promise<string>(() => {}) });
    page.source.changeAccount();
    await expect(waiting).rejects.toThrow();
    expect(page.queryClient.getQueryCache().getAll()).toEqual([]);
    page.mount(<One />);
    await page.shows("loading");
    (await page.next()).answer("grace's", rev(10));
    await page.shows("grace's");
  });

  test("drops what is shown in the place of what isn't there yet", async () => {
    function Kept({ of }: { of: string }) {
      const { data } = useQuery(list, { parent: of }, { placeholderData: keepPreviousData });
      return page.show(data?.messages[0]?.body ?? "loading");
    }
    const { unmount } = page.mount(<Kept of={parent} />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    unmount();
    let turn!: (of: string) => void;
    function Turned() {
      const [of, set] = useState(parent);
      turn = set;
      return <Kept of={of} />;
    }
    page.mount(<Turned />);
    turn("conversations/8");
    await page.next(); // never answered: ada's stays on show meanwhile
    page.source.changeAccount();
    await page.shows("loading");
    (await page.next()).answer("grace's", rev(10));
    await page.shows("grace's");
    expect(page.rendered).toEqual(["loading", "ada's", "loading", "grace's"]);
  });

  test("drops what a query began with", async () => {
    page.mount(<One />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    const queryKey = ["detail"];
    const details: string[] = [];
    let reply!: (text: string) => void;
    const answer = vi.fn(() => new Promise<string>((resolve) => (reply = resolve)));
    function Detail() {
      const { data } = useTanstackQuery({
        queryKey,
        queryFn: answer,
        // Out of the list, as TanStack Query's documentation has it.
        initialData: () => page.queryClient.getQueriesData<ListMessagesResponse>({}).map(([, held]) => held?.messages?.[0]?.body).find(Boolean),
      });
      details.push(data ?? "loading");
      return data ?? "loading";
    }
    page.mount(<Detail />);
    await vi.waitFor(() => expect(details.at(-1)).toBe("ada's"));
    expect(answer).not.toHaveBeenCalled();
    page.source.changeAccount();
    await vi.waitFor(() => expect(details.at(-1)).toBe("loading"));
    reply("grace's detail");
    await vi.waitFor(() => expect(details.at(-1)).toBe("grace's detail"));
    expect(answer).toHaveBeenCalledTimes(1);
    void page.queryClient.resetQueries({ queryKey }); // to what it began with
    await vi.waitFor(() => expect(details.at(-1)).toBe("loading"));
    const seen = details.filter((detail) => detail !== "loading");
    expect(seen.filter((detail, i) => detail !== seen[i - 1])).toEqual(["ada's", "grace's detail"]);
  });

  test("drops writes that are on show, or wait to be sent", async () => {
    page.mount(<One />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    let written!: (value: string) => void;
    const write = page.queries.optimistic({
      updates: [{ filters: {}, update: () => create(ListMessagesResponseSchema, { messages: [{ body: "ada's draft" }] }) }],
      write: () => new Promise<string>((resolve) => (written = resolve)),
    });
    const dropped = expect(write).rejects.toThrow(AccountChangedError);
    await page.shows("ada's draft");
    onlineManager.setOnline(false);
    const send = vi.fn(async () => {});
    function Writer() {
      const { mutate } = useMutation(MessageService.method.createMessage, { onSuccess: send });
      return <button type="button" onClick={() => mutate({ parent })}>write</button>;
    }
    const { getByText } = page.mount(<Writer />);
    getByText("write").click();
    await vi.waitFor(() => expect(page.queryClient.getMutationCache().getAll()).toHaveLength(1));
    page.source.changeAccount();
    expect(page.queryClient.getMutationCache().getAll()).toEqual([]);
    onlineManager.setOnline(true);
    (await page.next()).answer("grace's", rev(10));
    await page.shows("grace's");
    written("done");
    await dropped;
    await page.soon();
    expect(page.rendered.at(-1)).toBe("grace's");
    expect(send).not.toHaveBeenCalled();
  });
});

describe("a mutation that a change of account finds under way", () => {
  let page: Page;
  beforeEach(async () => {
    page = new Page();
    page.mount(<One />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
  });
  afterEach(() => {
    onlineManager.setOnline(true);
    page.close();
  });

  function One() {
    const { data } = useQuery(list, { parent });
    return page.show(data ? data.messages.map((m) => m.body).join() : "loading");
  }
  const key = () => createQueryOptions(list, { parent }, { transport: page.transport }).queryKey;
  const get = () => page.queryClient.getQueryData<ListMessagesResponse>(key());
  const set = (data: ListMessagesResponse | undefined) => page.queryClient.setQueryData(key(), data as never);
  const draft = create(ListMessagesResponseSchema, { messages: [{ body: "ada's draft" }] });
  type Options = MutationObserverOptions<unknown, Error, void, ListMessagesResponse | undefined>;
  /** As TanStack Query's documentation has it. */
  const rollback: Options = { onMutate: get, onError: (_error, _variables, snapshot) => set(snapshot) };

  /** Its end is the test's. */
  function mutate(options: Options, own?: Pick<Options, "onError">) {
    let succeed!: () => void;
    let fail!: () => void;
    const gate = new Promise<void>((resolve, reject) => {
      succeed = resolve;
      fail = () => reject(new Error("no"));
    });
    const mutationFn = vi.fn(() => gate);
    const observer = new MutationObserver(page.queryClient, { mutationFn, ...options });
    observer.subscribe(() => {});
    const done = observer.mutate(undefined, own as never);
    done.catch(() => {});
    return { succeed, fail, done, mutationFn, sent: () => vi.waitFor(() => expect(mutationFn).toHaveBeenCalled()) };
  }

  async function grace(): Promise<void> {
    page.source.changeAccount();
    (await page.next()).answer("grace's", rev(9));
    await page.shows("grace's");
    page.source.ready(rev(9));
    await vi.waitFor(() => expect(page.report.freshness).toBe("live"));
  }

  const rendersOnlyGraces = () => expect(page.rendered.filter((body) => body !== "loading")).toEqual(["ada's", "grace's"]);

  /** The cache has what she has read and nothing else, and so has the page, from the change on. */
  async function onlyGraces(): Promise<void> {
    await page.soon();
    rendersOnlyGraces();
    expect(get()?.messages.map((m) => m.body)).toEqual(["grace's"]);
    expect(page.report).toMatchObject({ freshness: "live", have: rev(9) });
    expect(page.api.reads.left).toBe(0);
  }

  const ways: [string, "succeed" | "fail", Options, Pick<Options, "onError">?][] = [
    ["onError", "fail", rollback],
    ["onError of `mutate`", "fail", {}, { onError: () => set(draft) }],
    ["onSuccess", "succeed", { onSuccess: () => set(draft) }],
    ["onSettled, in the end", "fail", { onError: () => new Promise((resolve) => setTimeout(resolve, 5)), onSettled: () => set(draft) }],
  ];

  test.each(ways)("shows the next one nothing by %s", async (_name, end, options, own) => {
    const write = mutate(options, own);
    await write.sent();
    await grace();
    write[end]();
    await write.done.catch(() => {});
    await onlyGraces();
  });

  test("shows nothing by what waits for it", async () => {
    const write = mutate({});
    await write.sent();
    const waiting = write.done.catch(() => set(draft)); // as after `mutateAsync`
    await grace();
    write.fail();
    await waiting;
    await onlyGraces();
  });

  test("shows nothing by an onMutate that goes on", async () => {
    let go!: () => void;
    const write = mutate({
      onMutate: async () => {
        await new Promise<void>((resolve) => (go = resolve));
        return set(draft) as undefined;
      },
    });
    await grace();
    go();
    await onlyGraces();
    await expect(write.done).rejects.toThrow(AccountChangedError); // nor is it sent
    expect(write.mutationFn).not.toHaveBeenCalled();
  });

  test("shows nothing if it waited for the network, and that is back", async () => {
    onlineManager.setOnline(false);
    mutate({
      onMutate: async () => {
        await Promise.resolve();
        return set(draft) as undefined;
      },
    });
    page.source.changeAccount();
    await page.soon();
    expect(get()).toBeUndefined();
    onlineManager.setOnline(true);
    await page.soon();
    (await page.next()).answer("grace's", rev(9));
    await page.shows("grace's");
    await page.soon();
    rendersOnlyGraces();
    // It is over: what is set now is hers.
    set(create(ListMessagesResponseSchema, { messages: [{ body: "grace's own" }] }));
    await page.shows("grace's own");
  });

  test("shows nothing where nothing has been read yet, not by calling that read off either", async () => {
    const write = mutate(rollback);
    await write.sent();
    page.source.changeAccount();
    await page.shows("loading");
    const before = await page.next();
    write.fail();
    await write.done.catch(() => {});
    expect(get()).toBeUndefined();
    await page.queryClient.cancelQueries(); // puts back what was there before the read
    expect(get()).toBeUndefined();
    before.answer("nobody's", rev(9));
    (await page.next()).answer("nobody's either", rev(9)); // begun in the place of that, and called off
    void page.queryClient.refetchQueries();
    (await page.next()).answer("grace's", rev(9));
    await page.shows("grace's");
    rendersOnlyGraces();
  });

  test("leaves nothing where nobody looks", async () => {
    const write = mutate({ onError: () => page.queryClient.setQueryData(["new"], draft) });
    await write.sent();
    await grace();
    write.fail();
    await write.done.catch(() => {});
    expect(page.queryClient.getQueryData(["new"])).toBeUndefined();
    expect(page.queryClient.getQueryCache().getAll()).toHaveLength(1);
    await onlyGraces();
  });

  test("leaves what is owed to be read as owed", async () => {
    const write = mutate(rollback);
    await write.sent();
    await grace();
    const [query] = page.queryClient.getQueryCache().getAll();
    query!.removeObserver(query!.observers[0]!); // nobody looks
    page.source.invalidate(rev(12), topic);
    expect(query!.state.isInvalidated).toBe(true);
    write.fail();
    await write.done.catch(() => {});
    expect(get()?.messages[0]?.body).toBe("grace's");
    expect(query!.state.isInvalidated).toBe(true);
  });

  test("isn't sent again as the next one", async () => {
    let fail!: () => void;
    const send = vi.fn(() => new Promise<void>((_resolve, reject) => (fail = () => reject(new Error("no")))));
    let render!: () => void;
    const ended = vi.fn();
    function Writer() {
      const [, set] = useState(0);
      render = () => set((n) => n + 1);
      const { mutate: write } = useTanstackMutation({ mutationFn: () => send(), retry: 1, retryDelay: 0, onError: (error) => ended(error.name) });
      return <button type="button" onClick={() => write()}>write</button>;
    }
    const { getByText } = page.mount(<Writer />);
    getByText("write").click();
    await vi.waitFor(() => expect(send).toHaveBeenCalled());
    await grace();
    render(); // gives the mutation its options again, where that is shown still
    await page.soon();
    fail();
    await vi.waitFor(() => expect(ended).toHaveBeenCalledWith("AccountChangedError"));
    expect(send).toHaveBeenCalledTimes(1);
  });

  // Of a write that is repeated, or of several requests, by itself or as a mutation's.
  test.each([["by itself", false], ["as a mutation", true]])("isn't gone on with as the next one, if it is `optimistic`: %s", async (_name, asMutation) => {
    const sent = vi.fn();
    const post = freshetFetch(page.source, (_input, init) => {
      init?.signal?.throwIfAborted(); // as fetch does
      sent();
      return Promise.resolve(new Response(null, { status: 503 }));
    });
    let last: AbortSignal | undefined;
    let goOn!: () => void;
    const ended = vi.fn();
    const write = () =>
      page.queries.optimistic({
        updates: [{ filters: { queryKey: key() }, update: (data) => data as unknown }],
        write: async ({ signal }) => {
          last = signal;
          for (let tries = 0; tries < 3; tries++) {
            await post("/messages", { method: "POST", signal }).catch(() => {});
            await new Promise<void>((resolve) => (goOn = resolve));
          }
          ended();
        },
      });
    const done = asMutation ? new MutationObserver(page.queryClient, { mutationFn: write }).mutate() : write();
    await vi.waitFor(() => expect(goOn).toBeDefined());
    page.source.changeAccount();
    await expect(done).rejects.toThrow(AccountChangedError); // at once
    expect(last?.reason).toBeInstanceOf(AccountChangedError);
    await vi.waitFor(() => {
      goOn();
      expect(ended).toHaveBeenCalled();
    });
    expect(sent).toHaveBeenCalledTimes(1);
    const read = await page.next();
    read.answer("grace's", rev(9));
    await page.shows("grace's");
    await page.soon();
    expect(page.api.reads.left).toBe(0); // nothing is read for its sake
  });

  test("leaves nothing of itself on show, nor does one that is over", async () => {
    function Writer({ answer }: { answer: Promise<string> }) {
      const { data, variables, mutate: write } = useTanstackMutation({ mutationFn: (_text: string) => answer });
      return <button type="button" onClick={() => write("hers")}>wrote {variables} {data}</button>;
    }
    const { getAllByRole } = page.mount(<><Writer answer={Promise.resolve("and was answered")} /><Writer answer={new Promise(() => {})} /></>);
    const buttons = getAllByRole("button");
    const texts = () => buttons.map(({ textContent }) => textContent);
    for (const button of buttons) button.click();
    await vi.waitFor(() => expect(texts()).toEqual(["wrote hers and was answered", "wrote hers "]));
    page.source.changeAccount();
    await vi.waitFor(() => expect(texts()).toEqual(["wrote  ", "wrote  "]));
  });

  test("has nothing to do with the next one's own, once it is over", async () => {
    const write = mutate(rollback);
    await write.sent();
    await grace();
    write.succeed();
    await write.done;
    await page.soon();
    set(create(ListMessagesResponseSchema, { messages: [{ body: "grace's own" }] }));
    await page.shows("grace's own");
  });
});

describe("a grant that is withdrawn", () => {
  test("has what is on show read again, and forgets the rest", async () => {
    const page = new Page();
    let answer!: (text: string) => void;
    const began = new Promise<string>((resolve) => (answer = resolve));
    try {
      const Other = () => <>{useQuery(list, { parent: "conversations/8" }).data?.messages[0]?.body}</>;
      const { unmount } = page.mount(<Other />);
      (await page.next()).answer("not on show", rev(10));
      await vi.waitFor(() => expect(document.body.textContent).toBe("not on show"));
      unmount();
      function One() {
        const { data, error } = useQuery(list, { parent });
        return page.show(error ? `error: ${error.message}` : data?.messages[0]?.body);
      }
      page.mount(<One />);
      (await page.next()).answer("on show", rev(10));
      await page.shows("on show");
      expect(page.source.topics.size).toBe(2);
      const waiting = page.queryClient.fetchQuery({ queryKey: ["9"], meta: { topics: ["9"] }, queryFn: () => began });
      page.source.denied(rev(10));
      const read = await page.next();
      expect(page.queryClient.getQueryCache().getAll()).toHaveLength(2);
      answer("to whoever waits");
      expect(await waiting).toBe("to whoever waits");
      expect(read.atLeast).toBeNull();
      read.fail(Code.PermissionDenied);
      await page.shows("error: [permission_denied] no");
      await vi.waitFor(() => expect([...page.source.topics]).toEqual(["9"]));
    } finally {
      page.close();
    }
  });
});
