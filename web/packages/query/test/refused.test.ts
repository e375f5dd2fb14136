import { Code, ConnectError } from "@connectrpc/connect";
import { createQueryOptions } from "@connectrpc/connect-query";
import { QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { failureOf } from "../src/failure.js";
import { freshetFetch } from "../src/fetch.js";
import { errorInfo, parent, retryInfo, topic } from "./message-api.js";
import { list, Page } from "./page.js";
import { Queue, rev } from "./server.js";

// What a read is refused with means the same whichever way it was sent.

interface Asked {
  readonly atLeast: string | null;
  answer(body: string, stamp: string): void;
  fail(code: Code, stamp?: string, details?: { type: string; value: Uint8Array }[]): void;
}

interface Way {
  next(): Promise<Asked>;
  left(): number;
  options(): unknown;
}

const byConnect = (page: Page): Way => ({
  next: () => page.next(),
  left: () => page.api.reads.left,
  options: () => createQueryOptions(list, { parent }, { transport: page.transport }),
});

const statuses = new Map([
  [Code.InvalidArgument, 400],
  [Code.FailedPrecondition, 400],
  [Code.PermissionDenied, 403],
  [Code.NotFound, 404],
  [Code.Unavailable, 503],
]);

/** `connects`: the body of an error is as Connect has it; else only the status tells. */
function byFetch(page: Page, connects = true): Way {
  const calls = new Queue<Asked>();
  const server: typeof globalThis.fetch = (_input, init) =>
    new Promise((resolve) => {
      const reply = (body: unknown, status: number, stamp?: string) =>
        resolve(Response.json(body, { status, headers: stamp ? { "freshet-revision": stamp } : {} }));
      calls.push({
        atLeast: new Headers(init?.headers).get("freshet-at-least"),
        answer: (body, stamp) => reply({ messages: [{ body }] }, 200, stamp),
        fail: (code, stamp, details = []) =>
          reply(connects ? errorOf(code, details) : { code: "NO", error: "no" }, statuses.get(code)!, stamp),
      });
    });
  const ask = freshetFetch(page.source, server);
  const queryFn = async ({ signal }: { signal: AbortSignal }) => {
    const response = await ask("/messages.v1.MessageService/ListMessages", { method: "POST", signal });
    if (!response.ok) throw new Error(((await response.json()) as { message: string }).message);
    return response.json();
  };
  return { next: () => calls.next(), left: () => calls.left, options: () => ({ queryKey: ["own"], queryFn, meta: { topics: [topic] } }) };
}

function errorOf(code: Code, details: { type: string; value: Uint8Array }[]) {
  const name = Code[code].replace(/\B[A-Z]/g, "_$&").toLowerCase();
  const value = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64").replaceAll("=", "");
  return { code: name, message: "no", details: details.map((detail) => ({ type: detail.type, value: value(detail.value) })) };
}

let page: Page;
let way: Way;
let observer: QueryObserver;

beforeEach(() => {
  page = new Page();
});
afterEach(() => {
  observer.destroy();
  page.close();
  vi.useRealTimers();
});

/** Shown, and owed an answer of rev(12), which is its first. */
async function first(of: Way): Promise<Asked> {
  way = of;
  observer = new QueryObserver(page.queryClient, way.options() as never);
  observer.subscribe(() => {});
  const asked = await way.next();
  await vi.advanceTimersByTimeAsync(0);
  page.source.ready(rev(12), [topic]);
  return asked;
}

const error = () => {
  const { error } = observer.getCurrentResult();
  return error instanceof ConnectError ? error.rawMessage : error?.message;
};

describe.each([
  ["freshetTransport", byConnect],
  ["freshetFetch", byFetch],
])("%s", (_, by) => {
  beforeEach(() => void vi.useFakeTimers());

  // By its details, as a node that has no room says it: 0x80, 0x01 is 128.
  test.each([
    ["seconds", retryInfo(100), 100_000],
    ["more of them", { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, 3, 0x08, 0x80, 0x01]) }, 128_000],
    ["seconds and nanoseconds", { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, 8, 0x08, 100, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]) }, 100_500],
  ])("told to wait for %s: it is asked again then, and not before", async (_, detail, waitMs) => {
    (await first(by(page))).fail(Code.Unavailable, undefined, [detail]);
    await vi.advanceTimersByTimeAsync(waitMs - 1);
    expect(way.left()).toBe(0);
    await vi.advanceTimersByTimeAsync(waitMs / 2 + 1);
    expect(way.left()).toBeGreaterThan(0);
  });

  // Nothing will ever be told of it, and to ask again would bring the same.
  test("for its spelling: the error is shown, isn't followed, and isn't asked again", async () => {
    (await first(by(page))).fail(Code.InvalidArgument, undefined, [errorInfo("TOPIC_SPELLING")]);
    await vi.advanceTimersByTimeAsync(100);
    expect(error()).toBe("no");
    expect([...page.source.topics]).toEqual([]);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(way.left()).toBe(0);

    void page.queryClient.refetchQueries(); // the server's tables may be others by now
    (await way.next()).answer("a", rev(12));
    await vi.advanceTimersByTimeAsync(100);
    expect(observer.getCurrentResult()).toMatchObject({ error: null, data: { messages: [{ body: "a" }] } });
    expect([...page.source.topics]).toEqual([topic]);
  });

  // Its input isn't valid yet, say: its topics could have the stream of all refused.
  test("not yet asked for: it isn't followed until it is", async () => {
    way = by(page);
    const options = way.options() as object;
    observer = new QueryObserver(page.queryClient, { ...options, enabled: false } as never);
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([]); // no observer listens
    observer.subscribe(() => {});
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([]);

    observer.setOptions({ ...options, enabled: true } as never);
    const asked = await way.next();
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([topic]); // before its answer
    asked.answer("a", rev(12));
    await vi.advanceTimersByTimeAsync(100);
    observer.setOptions({ ...options, enabled: false } as never);
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([topic]); // it shows something
  });

  test("asked for, and not shown (prefetchQuery): it is followed before its answer", async () => {
    way = by(page);
    observer = new QueryObserver(page.queryClient, way.options() as never); // nobody listens
    void page.queryClient.prefetchQuery(way.options() as never);
    const asked = await way.next();
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([topic]);
    asked.answer("a", rev(12));
  });

  test("as invalid, without that reason: it is followed, and asked again", async () => {
    (await first(by(page))).fail(Code.InvalidArgument, rev(12)); // whatever its stamp
    await vi.advanceTimersByTimeAsync(60_000);
    expect(way.left()).toBeGreaterThan(0);
    expect([...page.source.topics]).toEqual([topic]);
  });

  test("denied: it isn't followed until it is answered", async () => {
    (await first(by(page))).fail(Code.PermissionDenied);
    await vi.advanceTimersByTimeAsync(100);
    expect(error()).toBe("no");
    expect([...page.source.topics]).toEqual([]);
    void page.queryClient.refetchQueries();
    (await way.next()).answer("a", rev(12));
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([topic]);
  });

  test.each([Code.NotFound, Code.PermissionDenied, Code.FailedPrecondition])("as of a stamp, code %s: that is the answer", async (code) => {
    (await first(by(page))).fail(code, rev(12));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(error()).toBe("no");
    expect(way.left()).toBe(0);
  });

  test("unavailable: asked again, whatever its stamp", async () => {
    (await first(by(page))).fail(Code.Unavailable, rev(12));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(way.left()).toBe(1);
    expect([...page.source.topics]).toEqual([topic]);
  });

  test.each([
    [Code.FailedPrecondition, "EPOCH_CHANGED"],
    [Code.InvalidArgument, "AT_LEAST_UNKNOWN"],
  ])("for its at-least, code %s: sent again without", async (code, reason) => {
    const asked = await first(by(page));
    expect(asked.atLeast).toBe(rev(10));
    asked.fail(code, undefined, [errorInfo(reason)]);
    const again = await way.next();
    expect(again.atLeast).toBeNull();
    again.answer("a", rev(12));
    await vi.advanceTimersByTimeAsync(100);
    expect(observer.getCurrentResult()).toMatchObject({ error: null, data: { messages: [{ body: "a" }] } });
  });
});

// It is a hint, no more: what can't be read isn't said.
test.each([
  ["none", []],
  ["-1 s", [0x08, ...Array<number>(9).fill(0xff), 0x01]],
  ["half a number", [0x08, 0x80]],
  ["no number", [0x08]],
  ["another field", [0x18, 5]],
])("a delay of %s is none", (_, delay) => {
  const detail = { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, delay.length, ...delay]) };
  expect(failureOf("unavailable", [detail], new Headers()).waitMs).toBe(0);
});

// A server that isn't Connect's, and stamps: what it says by its status.
describe("freshetFetch, of another server", () => {
  beforeEach(() => void vi.useFakeTimers());

  test.each([Code.InvalidArgument, Code.NotFound])("a stamped error of code %s's status is an answer", async (code) => {
    (await first(byFetch(page, false))).fail(code, rev(12));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(way.left()).toBe(0);
    expect([...page.source.topics]).toEqual([topic]);
  });

  test("a 403: it isn't followed until it is answered", async () => {
    (await first(byFetch(page, false))).fail(Code.PermissionDenied);
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([]);
    void page.queryClient.refetchQueries();
    (await way.next()).answer("a", rev(12));
    await vi.advanceTimersByTimeAsync(100);
    expect([...page.source.topics]).toEqual([topic]);
  });
});
