// @vitest-environment happy-dom
import { Code } from "@connectrpc/connect";
import { createQueryOptions, useQuery } from "@connectrpc/connect-query";
import { QueryObserver } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { epochChanged, parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

let page: Page;

beforeEach(() => {
  page = new Page();
});
afterEach(() => {
  page.close();
});

function One(): ReactNode {
  const { data, error } = useQuery(list, { parent });
  return page.show(error ? `error: ${error.code}` : data?.messages.map((m) => m.body).join());
}

describe("another epoch", () => {
  test("while the first fetch is in flight: the old one's answer is never shown", async () => {
    page.mount(<One />);
    const first = await page.next();
    page.source.reset(rev(3, 2));
    first.answer("of the past", rev(900, 1));
    const second = await page.next();
    expect(second.atLeast).toBe(rev(3, 2));
    second.answer("new", rev(3, 2));
    await page.shows("new");
    expect(page.rendered).toEqual(["new"]);
  });

  test("while a refetch is in flight", async () => {
    page.mount(<One />);
    (await page.next()).answer("a", rev(10));
    await page.shows("a");
    page.source.invalidate(rev(11), topic);
    const refetch = await page.next();
    page.source.reset(rev(3, 2));
    refetch.answer("of the past", rev(900, 1));
    const again = await page.next(); // with jitter: up to a second
    expect(again.atLeast).toBe(rev(3, 2));
    again.answer("new", rev(3, 2));
    await page.shows("new");
    expect(page.rendered).toEqual(["a", "new"]);
  });

  test("is learned from an answer as well", async () => {
    page.mount(<One />);
    (await page.next()).answer("new", rev(1, 2));
    await page.shows("new");
    page.source.invalidate(rev(900, 1), topic); // a node that has not noticed yet
    await page.soon();
    expect(page.api.reads.left).toBe(0);
    expect(page.source.observed).toEqual([rev(1, 2)]);
  });

  test("learned from one query's answer, is another's as well", async () => {
    const other = new QueryObserver(
      page.queryClient,
      createQueryOptions(list, { parent: "conversations/8" }, { transport: page.transport }) as never,
    );
    other.subscribe(() => {});
    (await page.next()).answer("a", rev(10));
    await vi.waitFor(() => expect(page.report.have).toBe(rev(10)));
    page.mount(<One />);
    (await page.next()).answer("new", rev(1, 2));
    await page.shows("new");
    const again = await page.next(); // with jitter
    expect(again.atLeast).toBe(rev(1, 2));
    again.answer("b", rev(1, 2));
    await vi.waitFor(() => expect(page.report.have).toBe(rev(1, 2)));
    other.destroy();
  });

  test("EPOCH_CHANGED: at-least is dropped, the retry is strong", async () => {
    page.mount(<One />);
    (await page.next()).fail(Code.FailedPrecondition, rev(3, 2), [epochChanged()]);
    const again = await page.next();
    expect(again.atLeast).toBeNull();
    again.answer("new", rev(4, 2));
    await page.shows("new");
    expect(page.source.observed).toEqual([rev(3, 2), rev(4, 2)]);
  });
});
