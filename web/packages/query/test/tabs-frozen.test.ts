import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ModelServer } from "./model-server.js";
import { openAll, oneStream, Pages, patience } from "./tabs-harness.js";

let server: ModelServer;
let pages: Pages;
beforeEach(() => {
  server = new ModelServer();
  pages = new Pages(server);
});
afterEach(() => pages.close());

describe("F82: a leader that the browser froze", () => {
  test("without a word: the others judge it by its frames, though it beats and answers", async () => {
    server.heartbeatMs = 200;
    const stop = server.beat();
    try {
      await openAll(pages, 3, () => ["all"]);
      await oneStream(server, ["all"]);
      const frozen = await pages.leader();
      const others = pages.all.filter((page) => page !== frozen);
      frozen.freeze();
      const began = Date.now();
      const written = server.write("all");
      await Promise.all(others.map((page) => page.knows("all", written)));
      // 2.5 heartbeats are 500 ms; the rest is for a machine that is busy.
      expect(Date.now() - began).toBeLessThan(4000);
        frozen.thaw();
      await frozen.knows("all", written);
      expect((await pages.leader()) === frozen).toBe(false);
      await vi.waitFor(() => expect(server.streams.size).toBe(1), patience);
    } finally {
      stop();
    }
  });

  test("a healthy leader keeps the lock for as long as its heartbeats come", async () => {
    server.heartbeatMs = 500;
    const stop = server.beat(100); // for a machine that is busy
    try {
      await openAll(pages, 3, () => ["all"]);
      await oneStream(server, ["all"]);
      const leader = await pages.leader();
      const requests = server.requests.length;
      await new Promise((resolve) => setTimeout(resolve, 1300));
      expect(await pages.leader()).toBe(leader);
      expect(server.requests).toHaveLength(requests);
    } finally {
      stop();
    }
  });

  test("and told so: it gives the lead away, and takes no other until it thaws", async () => {
    await openAll(pages, 3, () => ["all"]);
    const first = await pages.leader();
    first.lifecycle.dispatchEvent(new Event("freeze"));
    const second = await vi.waitFor(async () => {
      const leader = await pages.leader();
      expect(leader).not.toBe(first);
      return leader;
    }, patience);
    const written = server.write("all");
    await Promise.all(pages.all.map((page) => page.knows("all", written))); // messages go on
    pages.drop(second);
    second.close();
    const third = await pages.leader();
    expect(third).not.toBe(first);
    pages.drop(third);
    third.close();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(first.client.leads).toBe(false);
    const missed = server.write("all");
    first.lifecycle.dispatchEvent(new Event("resume"));
    await first.knows("all", missed);
    expect(first.client.leads).toBe(true);
  });

  test("a leader that finds its timers late, and no frame meanwhile, gives the lead away", async () => {
    server.heartbeatMs = 400;
    const late: string[] = [];
    const logger = (_level: string, message: string) => void late.push(message);
    const one = pages.open({ logger });
    one.follow(["all"]);
    await one.live();
    const now = vi.spyOn(Date, "now");
    const real = performance.timeOrigin;
    now.mockImplementation(() => real + performance.now() + 1000); // it slept for so long
    try {
      await vi.waitFor(() => expect(late).toContain("tabs: this tab slept, another may lead"), patience);
    } finally {
      now.mockRestore();
    }
    const written = server.write("all");
    await one.knows("all", written);
  });

  test("what it missed it asks for when it thaws, whether or not its leader says more", async () => {
    const leader = pages.open({ tabs: { beatMs: 3_600_000 } });
    leader.follow(["all"]);
    await leader.live();
    const follower = pages.open();
    follower.follow(["all"]);
    await follower.live();
    follower.lifecycle.dispatchEvent(new Event("freeze"));
    let written = server.at;
    await follower.tab.deafen(() => {
      written = server.write("all");
      return leader.knows("all", written);
    });
    follower.lifecycle.dispatchEvent(new Event("resume"));
    await follower.knows("all", written);
    expect(leader.client.leads).toBe(true);
  });

  test("one without a stream is not believed either, once its timers have stopped", async () => {
    const hour = 3_600_000;
    const one = pages.open({ tabs: { beatMs: hour }, retryMs: hour, maxRetryMs: hour });
    const spy = pages.browser.open();
    const names: string[] = [];
    const { openChannel, locks } = pages.browser.open();
    const other = pages.open({ tabs: { locks, openChannel: (name) => (names.push(name), openChannel(name)) } });
    server.refuses = () => 503;
    one.follow(["a"]);
    await vi.waitFor(() => expect(one.client.status.state).toBe("waiting"), patience);
    expect(one.client.leads).toBe(true);
    other.follow(["a"]);
    await vi.waitFor(() => expect(other.client.status.state).toBe("waiting"), patience);
    const channel = spy.openChannel(names[0]!);
    const answers: unknown[] = [];
    channel.onmessage = ({ data }) => answers.push((data as { body: { type: string } }).body.type);
    channel.postMessage({ from: "x", body: { type: "ping" } });
    await vi.waitFor(() => expect(answers).toContain("beat"), patience);
    const now = vi.spyOn(Date, "now");
    const real = performance.timeOrigin;
    try {
      now.mockImplementation(() => real + performance.now() + 4 * hour);
      await vi.waitFor(() => expect(other.client.leads).toBe(true), patience);
    } finally {
      now.mockRestore();
    }
  });
});
