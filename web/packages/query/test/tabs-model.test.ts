import { expect, test, vi } from "vitest";
import { ModelServer } from "./model-server.js";
import { Pages, patience, type Page } from "./tabs-harness.js";

/** mulberry32: the seed names the run. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

const topics = ["a", "b", "c", "d"];

/**
 * G2 and G3 over all tabs: whatever happens to them while rows are written, in
 * the end each tab was told of the last write of each of its topics, and there
 * is one stream.
 */
test.each(Array.from({ length: 12 }, (_, i) => i + 1))("tabs come, go, crash and hang under writes: seed %i", async (seed) => {
  const pick = random(seed);
  const server = new ModelServer();
  const pages = new Pages(server);
  const hung = new Set<Page>();
  const follows = new Map<Page, ReturnType<Page["follow"]>>();
  const some = () => topics.filter((_, i) => i === 0 || pick(2) === 0);
  const open = () => {
    const page = pages.open();
    follows.set(page, page.follow(some()));
  };
  try {
    for (let i = 0; i < 4; i++) open();
    for (let step = 0; step < 120; step++) {
      const leader = pages.all.find((page) => page.client.leads);
      const page = (pick(2) === 0 && leader) || pages.all[pick(pages.all.length)]!;
      const what = pick(16);
      if (what === 0 && pages.all.length < 8) open();
      else if (what <= 2 && pages.all.length > 2) {
        pages.drop(page);
        hung.delete(page);
        if (what === 1) page.close();
        else page.crash();
      } else if (what === 3) {
        page.tab.hang();
        hung.add(page);
      } else if (what === 4) {
        for (const other of hung) other.tab.resume();
        hung.clear();
      } else if (what === 5) follows.get(page)!.setTopics(some());
      else if (what === 6) server.cut();
      else server.write(topics[pick(topics.length)]!);
      if (pick(3) === 0) await new Promise((resolve) => setTimeout(resolve, pick(40)));
    }
    for (const page of hung) page.tab.resume();
    await vi.waitFor(() => {
      for (const page of pages.all) {
        expect(page.client.status.state).toBe("live");
        for (const topic of follows.get(page)!.topics) {
          const last = server.last.get(topic);
          if (last) expect(page.need.get(topic) ?? "", topic).toSatisfy((need: string) => need >= last);
        }
      }
      expect(server.streams.size).toBe(1);
    }, patience);
  } finally {
    pages.close();
  }
});
