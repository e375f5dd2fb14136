// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { parseRevision, type Frame } from "@freshet/query";
import { Devtools } from "../src/devtools.js";
import { mountPanel, type Panel } from "../src/panel.js";

// As often as a panel is drawn, whatever happens. A screen has 60 frames a second here.

const frameMs = 16;
const settleMs = 80;
const revision = parseRevision("00000001-0000000000000010")!;
const notice: Frame = { type: "invalidate", revision, topics: ["messages"], spreadMs: 0 } as Frame;

let drawn: number;
let told: { frame: (frame: Frame) => void; status: () => void; queries: () => void };
let headers: Record<string, string>; // of each answer
let devtools: Devtools;
let panel: Panel;

beforeEach(() => {
  vi.useFakeTimers();
  const view = document.defaultView!;
  vi.spyOn(view, "requestAnimationFrame").mockImplementation(((look: () => void) => setTimeout(look, frameMs)) as never);
  vi.spyOn(view, "cancelAnimationFrame").mockImplementation(((frame: number) => clearTimeout(frame)) as never);
  drawn = 0;
  headers = {};
  told = { frame: () => {}, status: () => {}, queries: () => {} };
  devtools = new Devtools({
    freshet: {
      leads: true,
      get status() {
        drawn++; // each drawing begins with it, and nothing else looks
        return { state: "live", freshness: "live", lagMs: 0, revision } as const;
      },
      onFrame: (listener) => ((told.frame = listener), () => {}),
      onStatus: (listener) => ((told.status = listener), () => {}),
    },
    queries: { report: () => [], refetches: 0, onChange: (listener) => ((told.queries = listener), () => {}) },
    fetch: async () => new Response(null, { headers }),
  });
  panel = mountPanel(document.body, devtools);
});

afterEach(() => {
  panel.unmount();
  devtools.close();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test.each(["frame", "status", "queries"] as const)("a thousand events a second (%s): drawn every 80 ms at most, and the last of them is on show", async (kind) => {
  expect(drawn).toBe(1);
  for (let ms = 0; ms < 1000; ms++) {
    told[kind](notice);
    await vi.advanceTimersByTimeAsync(1);
  }
  expect(drawn).toBeGreaterThanOrEqual(10); // of all of them something is seen meanwhile
  expect(drawn).toBeLessThanOrEqual(1 + Math.ceil(1000 / settleMs));
  await vi.advanceTimersByTimeAsync(settleMs + frameMs);
  const before = drawn;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(drawn).toBe(before); // nothing happens: nothing is drawn
});

test("what happens is on show within 80 ms and a frame of the screen", async () => {
  told.frame(notice);
  await vi.advanceTimersByTimeAsync(settleMs + frameMs);
  expect(drawn).toBe(2);
  const host = document.body.firstElementChild!;
  expect(host.shadowRoot!.querySelector("ol.log b")?.textContent).toBe("invalidate");
  panel.unmount();
  told.frame(notice);
  await vi.advanceTimersByTimeAsync(1000);
  expect(drawn).toBe(2);
});

test("what isn't known, the panel says why, and what to switch on", async () => {
  const hints = () => {
    const shown = document.body.firstElementChild!.shadowRoot!.querySelectorAll<HTMLElement>("p.hint:not([hidden])");
    return [...shown].map((hint) => hint.textContent).join("\n");
  };
  const read = async () => {
    await devtools.fetch("/read");
    told.frame(notice);
    told.queries();
    await vi.advanceTimersByTimeAsync(settleMs + frameMs);
  };
  expect(hints()).toContain("sent by devtools.fetch: none yet");
  await read();
  expect(hints()).not.toContain("devtools.fetch");
  expect(hints()).toContain("Freshet-Cache: none yet");
  expect(hints()).not.toContain("--explain"); // one thing after the other
  headers = { "freshet-cache": "miss", "freshet-revision": revision };
  await read();
  expect(hints()).not.toContain("none yet");
  expect(hints()).toContain("the server says it with --explain, a service of one's own with Config.Explain");
  const later = parseRevision("00000001-0000000000000020")!;
  headers = { "freshet-cache": "miss", "freshet-revision": later, "freshet-cause": `change=insert, topic="messages", table="messages", rows=1, revision="${later}"` };
  await devtools.fetch("/read");
  told.frame({ ...notice, revision: later } as Frame);
  await read();
  expect(hints()).not.toContain("--explain");
});
