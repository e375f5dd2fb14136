import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Freshet, FreshetOptions } from "../src/client.js";
import { StreamLostError, StreamRefusedError } from "../src/errors.js";
import { freshetFetch } from "../src/fetch.js";
import { Nodes } from "../src/nodes.js";
import { follow, Harness, until } from "./harness.js";
import { Queue, rev, type StreamRequest } from "./server.js";

const hour = 3_600_000; // whatever connects again here is not a timer

let nodes: Harness[];
let arrived: Queue<{ request: StreamRequest; node: number }>;
let clients: Freshet[];
beforeEach(async () => {
  nodes = await Promise.all([Harness.start(), Harness.start(), Harness.start()]);
  arrived = new Queue();
  clients = [];
  nodes.forEach(({ server }, node) => {
    const push = server.requests.push;
    server.requests.push = (request) => {
      push(request);
      arrived.push({ request, node });
    };
  });
});
afterEach(async () => {
  vi.useRealTimers();
  for (const client of clients) client.close();
  await Promise.all(nodes.map((node) => node.close()));
});

function connect(options: FreshetOptions = {}): Freshet {
  const url = nodes.map(({ server }) => server.url);
  const client = nodes[0]!.connect({ url, retryMs: hour, maxRetryMs: hour, ...options });
  clients.push(client);
  return client;
}

const next = () => arrived.next();

describe("the stream", () => {
  test("goes on at another node at once, from the last id, and loses nothing", async () => {
    const client = connect();
    const { told } = follow(client, ["a", "b"], () => rev(5));
    const first = await next();
    first.request.ready(rev(10));
    await until(client, ({ state }) => state === "live");
    first.request.response.destroy();
    const second = await next();
    expect(second.node).not.toBe(first.node);
    expect(second.request.lastEventId).toBe(rev(10));
    expect(client.status.state).toBe("connecting");
    second.request.invalidate(rev(11), ["b"]);
    second.request.ready(rev(12));
    expect(await told.next()).toMatchObject({ topics: ["b"], revision: rev(11) });
    await until(client, ({ state }) => state === "live");
  });

  test("waits once all have been tried", async () => {
    const client = connect();
    follow(client, ["a"]);
    const seen = new Set<number>();
    for (const status of [503, 502, 500]) {
      const { request, node } = await next();
      seen.add(node);
      request.refuse(status);
    }
    await until(client, ({ state }) => state === "waiting");
    expect(seen.size).toBe(3);
    expect(client.status.error).toBeInstanceOf(StreamRefusedError);
    client.retry();
    await next();
  });

  test("goes on for ever while streams last", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const client = connect();
    follow(client, ["a"]);
    for (let i = 0; i < 7; i++) {
      const { request } = await next();
      request.ready(rev(10 + i));
      await until(client, ({ state }) => state === "live");
      vi.setSystemTime(Date.now() + hour);
      request.end();
      await until(client, ({ state }) => state === "connecting");
    }
  });

  test("doesn't ask in a circle nodes that end it right after ready", async () => {
    const client = connect();
    follow(client, ["a"]);
    for (let i = 0; i < 3; i++) {
      const { request } = await next();
      request.ready(rev(10));
      request.end();
    }
    await until(client, ({ state }) => state === "waiting");
    expect(client.status.error).toBeInstanceOf(StreamLostError);
    expect(arrived.left).toBe(0);
  });

  test.each([429, 403])("stays where it is when it is refused with %i", async (status) => {
    const client = connect();
    follow(client, ["a"]);
    const first = await next();
    first.request.refuse(status);
    await until(client, ({ state }) => state === (status === 429 ? "waiting" : "failed"));
    client.retry();
    expect((await next()).node).toBe(first.node);
  });
});

describe("what is fetched", () => {
  /** Answers with the address, but for hosts that are down. */
  function network() {
    const down = new Set<string>();
    const sent: string[] = [];
    const fetch: typeof globalThis.fetch = async (input, init) => {
      const url = new URL(String(input));
      const body = init?.body ? await new Response(init.body).text() : "";
      sent.push(`${init?.method ?? "GET"} ${url.host}${url.pathname} ${body}`.trim());
      if (down.has(url.host)) throw new TypeError("fetch failed");
      return new Response(url.host);
    };
    return { down, sent, fetch };
  }
  const urls = ["https://a.test/events", "https://b.test/events"];

  test("goes to the node that is used, whichever was named; reads go on at once", async () => {
    const { down, fetch } = network();
    const used = new Nodes(urls);
    const host = async (url: string, init?: RequestInit) => (await used.send(url, init, fetch)).text();
    const first = await host("https://a.test/x");
    expect(await host("https://b.test/x", { method: "POST", body: "y" })).toBe(first);
    down.add(first);
    const second = await host(`https://${first}/x`);
    expect(second).not.toBe(first);
    expect(used.url(used.current)).toBe(`https://${second}/events`);
    down.add(second);
    await expect(host("https://a.test/x")).rejects.toThrow("fetch failed"); // each is tried once
  });

  test("a write that failed isn't sent again, but the next goes elsewhere", async () => {
    const { down, sent, fetch } = network();
    const used = new Nodes(urls);
    const { host } = new URL(used.url(0));
    down.add(host);
    const write = () => used.send(new Request("https://a.test/x", { method: "POST", body: "y" }), undefined, fetch);
    await expect(write()).rejects.toThrow("fetch failed");
    expect(sent).toEqual([`POST ${host}/x y`]);
    expect(await (await write()).text()).not.toBe(host);
    expect(sent).toHaveLength(2);
  });

  test("what goes elsewhere, and what is called off, says nothing of a node", async () => {
    const { down, fetch } = network();
    const used = new Nodes(urls);
    down.add("c.test");
    await expect(used.send("https://c.test/x", undefined, fetch)).rejects.toThrow();
    const signal = AbortSignal.abort(new Error("called off"));
    const aborted: typeof fetch = async () => Promise.reject(signal.reason as Error);
    await expect(used.send("https://a.test/x", { signal }, aborted)).rejects.toThrow("called off");
    expect(used.current).toBe(0);
  });

  test("follows the stream, and has the token at each node and nowhere else", async () => {
    const { fetch } = network();
    const headers: (string | null)[] = [];
    const client = connect({
      url: urls,
      token: () => "t",
      fetch: (input, init) => {
        if (String(input).includes("/events")) return Promise.reject(new TypeError("down"));
        headers.push(new Headers(init?.headers).get("authorization"));
        return fetch(input, init);
      },
    });
    const get = freshetFetch(client, client.fetch);
    const before = await (await get("https://a.test/x")).text();
    follow(client, ["a"]);
    await until(client, ({ state }) => state === "waiting"); // both have failed, so it is back at the first
    expect(await (await get("https://b.test/x")).text()).toBe(before);
    await get("https://c.test/x");
    expect(headers).toEqual(["Bearer t", "Bearer t", null]);
  });

  test("where clients begin is spread, and a set has one name", () => {
    const begins = new Set(Array.from({ length: 100 }, () => new Nodes(urls).url(0)));
    expect(begins.size).toBe(2);
    expect(new Nodes(urls).name).toBe(new Nodes([...urls].reverse()).name);
    expect(() => new Nodes([])).toThrow("empty list");
  });
});
