import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Freshet, type FreshetOptions, type State } from "../src/client.js";
import type { Invalidation } from "../src/ledger.js";
import type { Revision } from "../src/revision.js";
import { Queue, rev, StreamServer } from "./server.js";

let server: StreamServer;
const clients: Freshet[] = [];

beforeEach(async () => {
  server = await StreamServer.start();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.close();
});

function connect(options: FreshetOptions = {}): Freshet {
  const client = new Freshet({ url: server.url, retryMs: 5, maxRetryMs: 20, resetSpreadMs: 0, ...options });
  clients.push(client);
  return client;
}

function subscribe(client: Freshet, ...topics: string[]) {
  const told = new Queue<Invalidation>();
  return { told, subscription: client.subscribe({ topics, onInvalidate: told.push }) };
}

/** Settles once the client is in the state; forgetting it would end in a time-out. */
function reaches(client: Freshet, state: State): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (client.status.state !== state) return;
      stop();
      resolve();
    };
    const stop = client.onStatus(check);
    check();
  });
}

async function live(client: Freshet, at = rev(10)) {
  const request = await server.requests.next();
  request.ready(at);
  await reaches(client, "live");
  return request;
}

describe("a stream", () => {
  test("tells ready once, then each change", async () => {
    const client = connect();
    const { told } = subscribe(client, "a", "b");
    const request = await live(client);
    expect(request.request.method).toBe("GET");
    expect(request.topics).toEqual(["a", "b"]);
    expect(request.request.headers.accept).toBe("text/event-stream");
    expect(await told.next()).toEqual({ cause: "ready", topics: ["a", "b"], revision: rev(10) });

    request.invalidate(rev(11), ["b", "not-mine"]);
    expect(await told.next()).toEqual({ cause: "invalidate", topics: ["b"], revision: rev(11) });
    expect(client.status).toMatchObject({ state: "live", revision: rev(11) });
    expect(client.atLeast).toBe(rev(11));
  });

  // An idle database: nothing but the topics is another.
  test("says when it follows a further topic, at the same revision", async () => {
    const client = connect();
    subscribe(client, "a");
    await live(client);
    subscribe(client, "b");
    expect(client.freshnessOf(["b"])).toBe("catching up");
    const told = new Queue<string>();
    const stop = client.onStatus(() => {
      if (client.freshnessOf(["b"]) === "live") told.push("live");
    });
    (await server.requests.next()).ready(rev(10));
    expect(await told.next()).toBe("live");
    stop();
  });

  test("says of topics that nobody wants any more that they aren't followed", async () => {
    const client = connect();
    const { subscription } = subscribe(client, "a", "b");
    await live(client);
    const told = new Queue<string[]>();
    client.onStatus(() => told.push(["a", "b"].map((topic) => client.freshnessOf([topic]))));
    subscription.setTopics(["a"]); // the stream still has both
    expect(await told.next()).toEqual(["live", "offline"]);
    subscription.setTopics(["a", "b", "c"]);
    expect(await told.next()).toEqual(["live", "live"]);
    expect(client.freshnessOf(["c"])).toBe("catching up");
    subscription.setTopics(["a", "c"]);
    (await server.requests.next()).ready(rev(10));
    await vi.waitFor(() => expect(client.freshnessOf(["a", "c"])).toBe("live"));
    expect(client.freshnessOf(["a", "b"].values())).toBe("offline");
    subscription.close();
    expect(client.freshnessOf(["a"])).toBe("offline");
  });

  test("says that a topic is wanted, before there is a stream", async () => {
    const client = connect();
    subscribe(client, "a");
    await server.requests.next();
    expect(client.freshnessOf(["b"])).toBe("offline");
    const told = new Queue<string>();
    client.onStatus(() => told.push(client.freshnessOf(["b"])));
    subscribe(client, "b");
    expect(await told.next()).toBe("catching up");
  });

  test("resumes from the last id, and does not repeat what was told", async () => {
    const client = connect();
    const { told } = subscribe(client, "a");
    const first = await live(client);
    await told.next();
    first.invalidate(rev(11), ["a"]);
    await told.next();
    first.end();

    const second = await server.requests.next();
    expect(second.lastEventId).toBe(rev(11));
    second.invalidate(rev(11), ["a"]); // known
    second.invalidate(rev(14), ["a"]);
    second.ready(rev(15));
    expect(await told.next()).toMatchObject({ cause: "invalidate", revision: rev(14) });
    await reaches(client, "live");
    expect(told.left).toBe(0); // ready tells nothing to who was caught up
  });

  test("heartbeats move the id to resume from", async () => {
    const client = connect();
    subscribe(client, "a");
    const first = await live(client);
    first.send("frontier", { revision: rev(99), lag_ms: 7000 }, rev(99));
    first.end();
    expect((await server.requests.next()).lastEventId).toBe(rev(99));
    expect(client.status.lagMs).toBe(7000);
  });

  test("an attempt that never became ready does not move it", async () => {
    const client = connect();
    subscribe(client, "a");
    (await live(client)).end();
    const second = await server.requests.next();
    second.invalidate(rev(20), ["a"]);
    second.end();
    expect((await server.requests.next()).lastEventId).toBe(rev(10));
  });

  test("a split list is resumed from before its first part", async () => {
    const client = connect();
    const { told } = subscribe(client, "a", "b");
    const first = await live(client);
    await told.next();
    first.send("invalidate", { revision: rev(12), topics: ["a"], spread_ms: 0 }); // no id
    expect(await told.next()).toMatchObject({ topics: ["a"], revision: rev(12) });
    first.end();
    const second = await server.requests.next();
    expect(second.lastEventId).toBe(rev(10));
    second.send("invalidate", { revision: rev(12), topics: ["a"], spread_ms: 0 });
    second.invalidate(rev(12), ["b"]);
    expect(await told.next()).toMatchObject({ topics: ["b"], revision: rev(12) });
  });

  test("a reset goes to everyone, with onReset first", async () => {
    const client = connect();
    const order: string[] = [];
    const told = new Queue<Invalidation>();
    client.subscribe({
      topics: ["a"],
      onReset: () => order.push("reset"),
      onInvalidate: (invalidation) => {
        order.push(invalidation.cause);
        told.push(invalidation);
      },
    });
    const first = await live(client, rev(900));
    await told.next();
    first.end();
    const second = await server.requests.next();
    second.send("reset", { revision: rev(3, 2), reason: "epoch" }, rev(3, 2));
    second.ready(rev(3, 2));
    expect(await told.next()).toEqual({ cause: "reset", topics: ["a"], revision: rev(3, 2) });
    await reaches(client, "live");
    expect(order).toEqual(["ready", "reset", "reset"]);
    expect(client.atLeast).toBe(rev(3, 2)); // not the higher position of the old epoch
  });

  test("onReset tells of another history at once, whoever says so first", async () => {
    const client = connect({ resetSpreadMs: 60_000 });
    subscribe(client, "a");
    const begun: Revision[] = [];
    client.onReset((revision) => {
      expect(client.isCurrent(revision)).toBe(true);
      begun.push(revision);
    });
    const request = await live(client, rev(900));
    expect(client.isCurrent(rev(1))).toBe(true);
    client.observe(rev(2, 2));
    expect(begun).toEqual([rev(2, 2)]);
    expect(client.isCurrent(rev(900))).toBe(false);
    client.observe(rev(3, 2));
    request.send("reset", { revision: rev(1, 3), reason: "epoch" }, rev(1, 3));
    await expect.poll(() => begun).toEqual([rev(2, 2), rev(1, 3)]);
  });

  test("a reset to a lower position of the same epoch counts as well", async () => {
    const client = connect();
    const { told } = subscribe(client, "a");
    (await live(client, rev(900))).end();
    await told.next();
    const second = await server.requests.next();
    second.send("reset", { revision: rev(30), reason: "epoch" }, rev(30));
    second.ready(rev(30));
    expect(await told.next()).toEqual({ cause: "reset", topics: ["a"], revision: rev(30) });
    await reaches(client, "live");
    expect(client.atLeast).toBe(rev(30)); // the old one would be refused as forged
  });

  test("a later epoch resets, even if no reset is told", async () => {
    const client = connect();
    const { told } = subscribe(client, "a");
    const request = await live(client, rev(900));
    await told.next();
    request.invalidate(rev(1, 2), ["other"]);
    expect(await told.next()).toEqual({ cause: "reset", topics: ["a"], revision: rev(1, 2) });
  });

  test("close() within a listener ends it in the middle of a chunk", async () => {
    const client = connect();
    const frames: string[] = [];
    client.onFrame((frame) => {
      frames.push(frame.type);
      if (frame.type === "frontier") client.close();
    });
    subscribe(client, "a");
    const request = await live(client);
    const beat = `id: ${rev(11)}\nevent: frontier\ndata: {"revision":"${rev(11)}"}\n\n`;
    request.write(beat + beat);
    await request.gone;
    expect(frames).toEqual(["ready", "frontier"]);
    expect(client.status.state).toBe("closed");
  });

  test("a node of an earlier epoch is not believed", async () => {
    const client = connect();
    const { told } = subscribe(client, "a");
    (await live(client, rev(5, 2))).end();
    await told.next();
    const stale = await server.requests.next();
    stale.ready(rev(900, 1));
    await stale.gone;
    await live(client, rev(6, 2));
    expect(told.left).toBe(0);
  });

  test("a listener that throws takes nobody down", async () => {
    const thrown = new Promise((resolve) => process.prependOnceListener("uncaughtException", resolve));
    const listeners = process.listeners("uncaughtException").slice(1);
    for (const l of listeners) process.off("uncaughtException", l);
    const client = connect();
    client.subscribe({
      topics: ["a"],
      onInvalidate: () => {
        throw new Error("mine");
      },
    });
    const { told } = subscribe(client, "a");
    await live(client);
    await told.next();
    expect(await thrown).toMatchObject({ message: "mine" });
    for (const l of listeners) process.on("uncaughtException", l);
    expect(client.status.state).toBe("live");
  });
});

describe("topics that change", () => {
  test("the new stream begins before the old one ends, and nothing is lost between", async () => {
    const client = connect();
    const a = subscribe(client, "a");
    const first = await live(client);
    await a.told.next();
    first.invalidate(rev(11), ["a"]);
    await a.told.next();

    const b = subscribe(client, "b");
    const second = await server.requests.next();
    expect(second.request.method).toBe("POST");
    expect(second.body).toEqual({ topics: ["a", "b"], since_by_topic: { a: rev(11) } });
    // While the new one opens, the old one goes on telling.
    first.invalidate(rev(12), ["a"]);
    expect(await a.told.next()).toMatchObject({ revision: rev(12) });
    second.invalidate(rev(13), ["a"]);
    expect(await a.told.next()).toMatchObject({ revision: rev(13) });
    second.ready(rev(13));
    await first.gone;
    // Who is new to a topic may have read it before: told once.
    expect(await b.told.next()).toEqual({ cause: "ready", topics: ["b"], revision: rev(13) });
    second.invalidate(rev(14), ["a", "b"]);
    expect(await a.told.next()).toMatchObject({ topics: ["a"], revision: rev(14) });
    expect(await b.told.next()).toMatchObject({ topics: ["b"], revision: rev(14) });
  });

  test("a set that grows again drops the attempt for the smaller one", async () => {
    const client = connect();
    subscribe(client, "a");
    const first = await live(client);
    subscribe(client, "b");
    const second = await server.requests.next();
    subscribe(client, "c");
    const third = await server.requests.next();
    await second.gone;
    expect(third.topics).toEqual(["a", "b", "c"]);
    third.ready(rev(11));
    await first.gone;
    expect(client.status.state).toBe("live");
  });

  test("a topic that is refused leaves the others live", async () => {
    const client = connect();
    const a = subscribe(client, "a");
    const first = await live(client);
    await a.told.next();
    const b = subscribe(client, "secret");
    (await server.requests.next()).refuse(403, { code: "permission_denied", message: "no grant" });
    await reaches(client, "failed");
    expect(client.status.error).toMatchObject({ status: 403, code: "permission_denied", message: "no grant" });
    first.invalidate(rev(11), ["a"]);
    await a.told.next();
    b.subscription.close();
    await reaches(client, "live");
    expect(server.requests.left).toBe(0);
  });

  test("renewed, the next stream goes on before the old one ends, and nobody is told anything for it", async () => {
    const client = connect();
    client.renew(); // nothing is open
    const a = subscribe(client, "a");
    const first = await live(client);
    await a.told.next();
    const states: string[] = [];
    client.onStatus(() => states.push(client.status.state));
    client.renew();
    const second = await server.requests.next();
    expect([second.topics, second.since("a")]).toEqual([["a"], rev(10)]);
    const late = subscribe(client, "a"); // what is covered takes no renewal back
    await late.told.next();
    first.invalidate(rev(11), ["a"]);
    expect(await a.told.next()).toMatchObject({ revision: rev(11) });
    second.refuse(503); // the old one is good for a while yet
    const third = await server.requests.next();
    expect(third.since("a")).toBe(rev(11));
    client.renew(); // yet another one
    const fourth = await server.requests.next();
    await third.gone;
    fourth.ready(rev(11));
    await first.gone;
    fourth.invalidate(rev(12), ["a"]);
    expect(await a.told.next()).toMatchObject({ revision: rev(12) });
    expect(new Set(states)).toEqual(new Set(["live"]));
    expect(a.told.left + server.requests.left).toBe(0);
  });

  test("refused for a topic that nobody wants any more, it is opened again without", async () => {
    const client = connect();
    const a = subscribe(client, "a");
    const b = subscribe(client, "secret");
    const first = await server.requests.next();
    expect(first.topics.toSorted()).toEqual(["a", "secret"]);
    b.subscription.close();
    await new Promise((resolve) => setTimeout(resolve, 40)); // it is noticed, and changes nothing yet
    first.refuse(403, { code: "permission_denied", message: "no grant" });
    const second = await live(client);
    expect(second.topics).toEqual(["a"]);
    await a.told.next();
  });

  test("who joins a live topic is told at once, without a new stream", async () => {
    const client = connect();
    const a = subscribe(client, "a");
    await live(client);
    await a.told.next();
    const late = subscribe(client, "a");
    expect(await late.told.next()).toEqual({ cause: "ready", topics: ["a"], revision: rev(10) });
    expect(a.told.left + server.requests.left).toBe(0);
  });

  test("setTopics keeps what stays", async () => {
    const client = connect();
    const { told, subscription } = subscribe(client, "a", "b");
    await live(client);
    await told.next();
    subscription.setTopics(["b", "c"]);
    const second = await server.requests.next();
    expect(second.body).toEqual({ topics: ["b", "c"], since_by_topic: { b: rev(10) } });
    second.ready(rev(12));
    expect(await told.next()).toEqual({ cause: "ready", topics: ["c"], revision: rev(12) });
  });

  test("the last one to leave closes the stream", async () => {
    const client = connect();
    const { subscription } = subscribe(client, "a");
    const request = await live(client);
    subscription.close();
    await request.gone;
    expect(client.status.state).toBe("idle");
    expect(client.atLeast).toBeUndefined();
  });

  test("coming and going at once costs no request", async () => {
    const client = connect();
    subscribe(client, "a").subscription.close(); // as React's strict mode does
    subscribe(client, "a");
    await live(client);
    expect(server.requests.all).toHaveLength(1);
  });

  test("many topics go by POST", async () => {
    const client = connect({ throttleMs: 250 });
    const topics = Array.from({ length: 400 }, (_, i) => `conversations/${i}/messages`);
    subscribe(client, ...topics);
    const request = await live(client);
    expect(request.request.method).toBe("POST");
    expect(request.body).toEqual({ topics });
    expect(request.query.get("throttle")).toBe("250"); // the server refuses it in the body
    request.end();
    const second = await server.requests.next();
    expect(second.body).toEqual({ topics, since: rev(10) });
    expect(second.query.get("throttle")).toBe("250");
  });
});
