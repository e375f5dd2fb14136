// @vitest-environment happy-dom
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { useInfiniteQuery, useMutation, useQuery } from "@connectrpc/connect-query";
import { keepPreviousData, onlineManager } from "@tanstack/react-query";
import { useState } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ListMessagesResponseSchema } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
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

  test("drops writes that are on show, or wait to be sent", async () => {
    page.mount(<One />);
    (await page.next()).answer("ada's", rev(10));
    await page.shows("ada's");
    let written!: (value: string) => void;
    const write = page.queries.optimistic({
      updates: [{ filters: {}, update: () => create(ListMessagesResponseSchema, { messages: [{ body: "ada's draft" }] }) }],
      write: () => new Promise<string>((resolve) => (written = resolve)),
    });
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
    expect(await write).toBe("done");
    await page.soon();
    expect(page.rendered.at(-1)).toBe("grace's");
    expect(send).not.toHaveBeenCalled();
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
