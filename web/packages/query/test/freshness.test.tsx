// @vitest-environment happy-dom
import { createQueryOptions, useQuery } from "@connectrpc/connect-query";
import type { ReactNode } from "react";
import { expect, test, vi } from "vitest";
import { useQueryFreshness } from "../src/react.js";
import { parent, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { rev } from "./server.js";

test("freshness of a query: catching up while it owes, offline without a stream", async () => {
  const page = new Page();
  const { queryKey } = createQueryOptions(list, { parent }, { transport: page.transport });
  const marks: (string | undefined)[] = [];
  function Mark(): ReactNode {
    const freshness = useQueryFreshness(page.queries, queryKey);
    if (marks.at(-1) !== freshness) marks.push(freshness);
    return page.show(useQuery(list, { parent }).data?.messages.map((m) => m.body).join());
  }
  page.mount(<Mark />);
  (await page.next()).answer("a", rev(10));
  await page.shows("a");
  page.source.ready(rev(10));
  await vi.waitFor(() => expect(marks.at(-1)).toBe("live"));
  page.source.invalidate(rev(11), topic);
  const read = await page.next();
  await vi.waitFor(() => expect(marks.at(-1)).toBe("catching up"));
  read.answer("b", rev(11));
  await vi.waitFor(() => expect(marks.at(-1)).toBe("live"));
  page.source.lose();
  await vi.waitFor(() => expect(marks.at(-1)).toBe("offline"));
  expect(page.queries.reportOf(["another"])).toBeUndefined();
  page.close();
});
