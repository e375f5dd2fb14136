// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Freshet } from "../src/client.js";
import { StreamSilentError } from "../src/errors.js";
import { FakeStream } from "./fake-stream.js";
import { Queue } from "./server.js";

const patience = { timeout: 5000 };
let streams: Queue<FakeStream>;
let client: Freshet;

beforeEach(() => {
  streams = new Queue();
  client = new Freshet({
    retryMs: 3_600_000, // an hour: whatever reconnects here is not the timer
    maxRetryMs: 3_600_000,
    fetch: async (input, init) => {
      const stream = new FakeStream(String(input), init ?? {});
      const response = stream.open(init?.signal);
      streams.push(stream);
      return response;
    },
  });
  client.subscribe({ topics: ["a"], onInvalidate: () => {} });
});
afterEach(() => {
  client.close();
  vi.useRealTimers();
});

test.each([
  ["online", () => window.dispatchEvent(new Event("online"))],
  ["pageshow", () => window.dispatchEvent(new Event("pageshow"))],
  ["visible", () => document.dispatchEvent(new Event("visibilitychange"))],
])("%s ends a wait", async (_name, wake) => {
  const first = await streams.next();
  await first.send("ready", 10);
  first.end();
  await vi.waitFor(() => expect(client.status.state).toBe("waiting"), patience);
  wake();
  await streams.next();
});

test("waking up leaves a stream alone that has been heard of lately", async () => {
  await (await streams.next()).send("ready", 10);
  window.dispatchEvent(new Event("online"));
  expect(client.status.state).toBe("live");
  expect(streams.left).toBe(0);
});

// F19: the timers of a suspended tab have not run, but the clock has.
test("waking up cuts a stream that slept through its heartbeats", async () => {
  await (await streams.next()).send("ready", 10);
  vi.useFakeTimers({ toFake: ["Date"] });
  vi.setSystemTime(Date.now() + 60_000);
  window.dispatchEvent(new Event("online"));
  await vi.waitFor(() => expect(client.status.error).toBeInstanceOf(StreamSilentError), patience);
});

test("after close() nothing listens any more", async () => {
  await streams.next();
  const removed = vi.spyOn(window, "removeEventListener");
  client.close();
  expect(removed.mock.calls.map(([event]) => event)).toEqual(["online", "pageshow"]);
  window.dispatchEvent(new Event("online"));
  expect(streams.left).toBe(0);
});
