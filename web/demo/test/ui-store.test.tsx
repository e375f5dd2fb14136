// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { FakeServer } from "./server.js";

const server = new FakeServer();
/** Tells the page what comes into sight. */
let sight: (entries: { isIntersecting: boolean }[]) => void;
let store: typeof import("../src/ui-store.js");

beforeAll(async () => {
  vi.stubGlobal("fetch", server.fetch);
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      constructor(seen: typeof sight) {
        sight = seen;
      }
      observe() {}
      disconnect() {}
    },
  );
  const { Page } = await import("../src/page.js");
  store = await import("../src/ui-store.js");
  render(<Page />);
  await screen.findByText("first");
});
afterAll(async () => {
  cleanup();
  (await import("../src/live.js")).freshet.close();
  vi.unstubAllGlobals();
});

test("no event of the stream, and no answer, touches drafts, selection or panels", async () => {
  const field = screen.getByLabelText<HTMLTextAreaElement>("Message");
  fireEvent.change(field, { target: { value: "half a sentence" } });
  fireEvent.click(screen.getByLabelText("Edit message by ada"));
  fireEvent.change(screen.getByLabelText("Message text"), { target: { value: "mine" } });
  store.showInspector(true);

  const before = store.useUi.getState();
  const writes: unknown[] = [];
  const stop = store.useUi.subscribe((state) => writes.push(state));
  // A change, and one of the very message that is being edited.
  server.change("theirs", "second");
  await screen.findByText("second");
  // A read that fails.
  server.status = 503;
  const reads = server.reads;
  server.change("lost");
  await waitFor(() => expect(server.reads).toBeGreaterThan(reads));
  server.status = 200;
  server.position++;
  server.send("frontier", { lag_ms: 60_000 }); // behind
  server.send("frontier", { lag_ms: 0 });
  // Another history; and the message is gone.
  server.position++;
  server.send("reset", { reason: "epoch" });
  server.bodies = [];
  await screen.findByText("Nothing here yet.", undefined, { timeout: 8000 });
  screen.getByLabelText("Message text"); // its editor is still open: F73
  server.change("theirs", "again");
  await screen.findByText("again");
  stop();

  expect(writes).toEqual([]);
  expect(store.useUi.getState()).toBe(before);
  expect(field.value).toBe("half a sentence");
  expect(screen.getByLabelText<HTMLTextAreaElement>("Message text").value).toBe("mine");
});

// F73: on a busy page the list got stuck, since of several entries the first one was looked at.
test("older messages are read when the button has come into sight, whatever was told before", async () => {
  server.more = true;
  server.change("enough", "and more");
  const older = await screen.findByRole("button", { name: "Older messages" });
  await waitFor(() => expect(older.getAttribute("aria-disabled")).toBe(null));
  const reads = server.reads;
  sight([{ isIntersecting: true }, { isIntersecting: false }]); // came and went
  server.more = false;
  sight([{ isIntersecting: false }, { isIntersecting: true }]);
  await waitFor(() => expect(server.reads).toBeGreaterThan(reads));
  await waitFor(() => expect(screen.queryByRole("button", { name: "Older messages" })).toBe(null));
});

// F73: of two texts neither goes without a word.
test("a message that could not be sent comes back, also when the next one is being typed", () => {
  store.setDraft("general", "the next one");
  store.restoreDraft("general", "not sent");
  expect(store.useUi.getState().drafts["general"]).toBe("not sent\nthe next one");
  store.setDraft("general", "");
  store.restoreDraft("general", "not sent");
  expect(store.useUi.getState().drafts["general"]).toBe("not sent");
});

/** What a module of the page imports, and what that imports. */
function imports(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const [, name] of readFileSync(file, "utf8").matchAll(/from "([^"]+)"/g)) {
    if (!name!.startsWith(".")) seen.add(name!);
    else if (!name!.includes("/gen/")) {
      const base = resolve(dirname(file), name!.replace(/\.js$/, ""));
      const found = [`${base}.ts`, `${base}.tsx`].find((path) => {
        try {
          return readFileSync(path);
        } catch {
          return false;
        }
      });
      imports(found ?? expect.fail(`${name} of ${file} was not found`), seen);
    }
  }
  return seen;
}

const source = (path: string) => resolve(import.meta.dirname, "..", path);

test("the modules of stream and data don't know the store, nor it them", () => {
  const store = source("src/ui-store.ts");
  expect([...imports(store)]).toEqual([store, "zustand"]);
  for (const entry of ["src/live.ts", "src/messages.ts", "../packages/query/src/tanstack.ts"]) {
    const all = imports(source(entry));
    expect(all.size).toBeGreaterThan(5);
    expect([...all].filter((name) => name === store || name === "zustand")).toEqual([]);
  }
});
