// @vitest-environment happy-dom
import { act, cleanup, render } from "@testing-library/react";
import { StrictMode } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Freshet } from "../src/client.js";
import type { Invalidation } from "../src/ledger.js";
import {
  FreshetProvider,
  useFreshetFrames,
  useFreshetStatus,
  useFreshness,
  useInvalidation,
} from "../src/react.js";
import { FakeStream } from "./fake-stream.js";
import { Queue, rev } from "./server.js";

let streams: Queue<FakeStream>;
let client: Freshet;

beforeEach(() => {
  streams = new Queue();
  client = new Freshet({
    fetch: async (input, init) => {
      const stream = new FakeStream(String(input), init ?? {});
      const response = stream.open();
      streams.push(stream);
      return response;
    },
  });
});
afterEach(() => {
  cleanup();
  client.close();
});

/** Lets React see what a frame changed. */
function send(stream: FakeStream, event: string, n: number, topics?: string[]): Promise<void> {
  return act(() => stream.send(event, n, topics));
}

function Listener(props: { topics: string[]; enabled?: boolean; onInvalidate: (i: Invalidation) => void }) {
  useInvalidation(props);
  return <p>{useFreshetStatus().state}</p>;
}

function show(node: React.ReactNode) {
  const tree = (children: React.ReactNode) => (
    <StrictMode>
      <FreshetProvider client={client}>{children}</FreshetProvider>
    </StrictMode>
  );
  const view = render(tree(node));
  return { ...view, show: (next: React.ReactNode) => view.rerender(tree(next)) };
}

test("subscribes once under strict mode, tells, and unsubscribes", async () => {
  const told = vi.fn();
  const view = show(<Listener topics={["messages"]} onInvalidate={told} />);
  const stream = await streams.next();
  expect(stream.topics).toEqual(["messages"]);
  await send(stream, "ready", 10);
  expect(view.container.textContent).toBe("live");
  expect(told).toHaveBeenCalledExactlyOnceWith({ cause: "ready", topics: ["messages"], revision: rev(10) });
  await send(stream, "invalidate", 11, ["messages"]);
  expect(told).toHaveBeenCalledTimes(2);
  view.show(null);
  await vi.waitFor(() => expect(client.status.state).toBe("idle"), { timeout: 5000 });
  expect(streams.all).toHaveLength(1);
});

test("calls the latest callback; equal topics and a new callback change nothing", async () => {
  const first = vi.fn();
  const second = vi.fn();
  const view = show(<Listener topics={["a", "b"]} onInvalidate={first} />);
  const stream = await streams.next();
  await send(stream, "ready", 10);
  view.show(<Listener topics={["b", "a"]} onInvalidate={second} />);
  await send(stream, "invalidate", 11, ["a"]);
  expect(first).toHaveBeenCalledTimes(1);
  expect(second).toHaveBeenCalledTimes(1);
  expect(streams.all).toHaveLength(1);
});

test("another topic takes over without a gap", async () => {
  const told = vi.fn();
  const view = show(<Listener topics={["a", "b"]} onInvalidate={told} />);
  const first = await streams.next();
  await send(first, "ready", 10);
  view.show(<Listener topics={["b", "c"]} onInvalidate={told} />);
  const second = await streams.next();
  expect(second.body).toEqual({ topics: ["b", "c"], since_by_topic: { b: rev(10) } });
  await send(first, "invalidate", 11, ["b"]);
  expect(told).toHaveBeenLastCalledWith({ cause: "invalidate", topics: ["b"], revision: rev(11) });
  await send(second, "ready", 12);
  expect(told).toHaveBeenLastCalledWith({ cause: "ready", topics: ["c"], revision: rev(12) });
  expect(told).toHaveBeenCalledTimes(3);
});

test("enabled: false is not subscribed", async () => {
  const told = vi.fn();
  const view = show(<Listener topics={["a"]} enabled={false} onInvalidate={told} />);
  expect(client.status.state).toBe("idle");
  view.show(<Listener topics={["a"]} onInvalidate={told} />);
  await send(await streams.next(), "ready", 10);
  expect(told).toHaveBeenCalledTimes(1);
});

test("freshness of some topics, and in all", async () => {
  function Mark({ topics }: { topics?: string[] }) {
    return <i>{useFreshness(topics)};</i>;
  }
  const view = show(
    <>
      <Listener topics={["a"]} onInvalidate={() => {}} />
      <Mark />
      <Mark topics={["a"]} />
      <Mark topics={["b"]} />
    </>,
  );
  const marks = () => [...view.container.querySelectorAll("i")].map((mark) => mark.textContent).join(" ");
  const stream = await streams.next();
  await vi.waitFor(() => expect(marks()).toBe("catching up; catching up; offline;"), { timeout: 5000 });
  await send(stream, "ready", 10);
  expect(marks()).toBe("live; live; offline;"); // nobody asks for b
  await act(async () => stream.end());
  await vi.waitFor(() => expect(marks()).toBe("offline; offline; offline;"), { timeout: 5000 });
});

test("the last frames, the newest first", async () => {
  function Log() {
    const frames = useFreshetFrames(2);
    return <p>{frames.map(({ number, frame }) => `${number} ${frame.type}`).join(", ")}</p>;
  }
  const view = show(<Log />);
  client.subscribe({ topics: ["a"], onInvalidate: () => {} });
  const stream = await streams.next();
  await send(stream, "ready", 10);
  await send(stream, "invalidate", 11, ["a"]);
  await send(stream, "invalidate", 12, ["a"]);
  expect(view.container.textContent).toBe("3 invalidate, 2 invalidate");
});

test("without a provider it says what is missing", () => {
  const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
  expect(() => render(<Listener topics={["a"]} onInvalidate={() => {}} />)).toThrow(/FreshetProvider/);
  quiet.mockRestore();
});
