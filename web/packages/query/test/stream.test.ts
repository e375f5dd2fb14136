import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { follow, Harness, until } from "./harness.js";
import { rev } from "./server.js";

let harness: Harness;
beforeEach(async () => {
  harness = await Harness.start();
});
afterEach(() => harness.close());

describe("since", () => {
  const stamps = (map: Record<string, number>) => (topic: string) =>
    map[topic] === undefined ? undefined : rev(map[topic]);

  test("data of one age asks for what changed after it, and is told no more", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a", "b"], stamps({ a: 5, b: 5 }));
    const request = await harness.server.requests.next();
    expect(request.request.method).toBe("GET");
    expect(request.lastEventId).toBe(rev(5));
    request.invalidate(rev(7), ["b"]);
    request.ready(rev(10));
    expect(await told.next()).toEqual({ cause: "invalidate", topics: ["b"], revision: rev(7) });
    await until(client, ({ state }) => state === "live");
    expect(told.left).toBe(0);
  });

  test("data of several ages: by POST, the lowest of each topic", async () => {
    const client = harness.connect();
    const one = follow(client, ["a", "b", "c"], stamps({ a: 5, b: 6 }));
    const two = follow(client, ["a", "b"], stamps({ a: 4, b: 9 }));
    const request = await harness.server.requests.next();
    expect(request.request.method).toBe("POST");
    expect(request.body).toEqual({ topics: ["a", "b", "c"], since_by_topic: { a: rev(4), b: rev(6) } });
    request.invalidate(rev(8), ["b"]);
    request.ready(rev(10));
    expect(await one.told.next()).toMatchObject({ cause: "invalidate", topics: ["b"], revision: rev(8) });
    expect(await one.told.next()).toEqual({ cause: "ready", topics: ["c"], revision: rev(10) });
    await until(client, ({ state }) => state === "live");
    expect(two.told.left).toBe(0); // its data is newer than what changed
  });

  test("who joins later is told from what the stream has told", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const request = await harness.live(client);
    await told.next();
    request.invalidate(rev(12), ["a"]);
    await told.next();
    const old = follow(client, ["a"], stamps({ a: 11 }));
    const fresh = follow(client, ["a"], stamps({ a: 12 }));
    expect(await old.told.next()).toEqual({ cause: "invalidate", topics: ["a"], revision: rev(12) });
    request.invalidate(rev(13), ["a"]);
    expect(await fresh.told.next()).toMatchObject({ revision: rev(13) });
    expect(harness.server.requests.all).toHaveLength(1);
  });

  test("data from before the stream began opens one that begins earlier", async () => {
    const client = harness.connect();
    const a = follow(client, ["a"]);
    const first = await harness.live(client);
    await a.told.next();
    const older = follow(client, ["a"], stamps({ a: 3 }));
    const second = await harness.server.requests.next();
    expect(second.lastEventId).toBe(rev(3));
    second.invalidate(rev(4), ["a"]);
    second.ready(rev(10));
    await first.gone;
    expect(await older.told.next()).toEqual({ cause: "invalidate", topics: ["a"], revision: rev(4) });
    second.invalidate(rev(14), ["a"]);
    expect(await a.told.next()).toMatchObject({ revision: rev(14) }); // not of 4: it knew
    expect(await older.told.next()).toMatchObject({ revision: rev(14) });
    expect(harness.server.requests.left).toBe(0);
  });

  test("what was told in an earlier epoch says nothing of this one", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client, rev(10, 1));
    await told.next();
    first.invalidate(rev(5, 2), ["other"]); // a reset, though not by name
    expect(await told.next()).toMatchObject({ cause: "reset" });
    const late = follow(client, ["a"], stamps({}));
    const older = follow(client, ["a"], () => rev(3, 2)); // from before it was heard of
    expect((await harness.server.requests.next()).since("a") < rev(5, 2)).toBe(true);
    late.subscription.close();
    older.subscription.close();
  });

  test("from another epoch it is answered by a reset, once", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"], () => rev(900, 1));
    const request = await harness.server.requests.next();
    request.send("reset", { revision: rev(3, 2), reason: "epoch" }, rev(3, 2));
    request.ready(rev(4, 2));
    expect(await told.next()).toEqual({ cause: "reset", topics: ["a"], revision: rev(3, 2) });
    await until(client, ({ state }) => state === "live");
    request.invalidate(rev(5, 2), ["a"]);
    expect(await told.next()).toMatchObject({ cause: "invalidate", revision: rev(5, 2) });
    expect(harness.server.requests.left).toBe(0);
  });
});

describe("topics that the server can't tell", () => {
  const spelling = (...topics: string[]) => ({ code: "invalid_argument", message: "no row has it", topics });

  test("cost the others nothing", async () => {
    const warned: unknown[] = [];
    const client = harness.connect({ logger: (level, message) => level === "warn" && warned.push(message) });
    const a = follow(client, ["a"]);
    const bad = follow(client, ["a", "b/X"]);
    (await harness.server.requests.next()).refuse(400, spelling("b/X"));
    const stream = await harness.live(client);
    expect([...stream.topics]).toEqual(["a"]);
    expect([client.status.state, client.status.freshness]).toEqual(["live", "live"]);
    expect([a.subscription.freshness, bad.subscription.freshness]).toEqual(["live", "offline"]);
    expect(warned).toEqual(["freshet: b/X: no row has it"]);

    // Nor does another one, later; the stream that is there goes on meanwhile.
    const worse = follow(client, ["c/Y", "d"]);
    const grown = await harness.server.requests.next();
    expect([...grown.topics].sort()).toEqual(["a", "c/Y", "d"]);
    grown.refuse(400, spelling("c/Y"));
    const next = await harness.live(client);
    expect([...next.topics].sort()).toEqual(["a", "d"]);
    expect([a.subscription.freshness, bad.subscription.freshness, worse.subscription.freshness]).toEqual(["live", "offline", "offline"]);
    expect(warned).toHaveLength(2);

    // Whoever wants it anew has it tried anew.
    bad.subscription.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    follow(client, ["b/X"]);
    expect([...(await harness.server.requests.next()).topics]).toContain("b/X");
  });

  // A view of one of them would go on saying that it catches up.
  test("are told of to who listens, though the status is as before", async () => {
    const client = harness.connect({ logger: () => {} });
    follow(client, ["a"]);
    await harness.live(client);
    const bad = follow(client, ["b/X"]);
    const grown = await harness.server.requests.next();
    const before = client.status;
    const told = new Promise<void>((resolve) => client.onStatus(() => bad.subscription.freshness === "offline" && resolve()));
    grown.refuse(400, spelling("b/X"));
    await told;
    expect(client.status).toEqual(before);
    expect(harness.server.requests.left).toBe(0);
  });

  test("are all there are", async () => {
    const client = harness.connect({ logger: () => {} });
    const bad = follow(client, ["b/X"]);
    (await harness.server.requests.next()).refuse(400, spelling("b/X"));
    await until(client, ({ state }) => state === "failed");
    expect(client.status.error?.message).toBe("no row has it");
    expect([client.status.freshness, bad.subscription.freshness]).toEqual(["offline", "offline"]);
    expect(harness.server.requests.left).toBe(0);
    client.retry();
    await harness.live(client);
    expect(bad.subscription.freshness).toBe("live");
  });
});

describe("freshness", () => {
  test("live, catching up, offline: in all and of a subscription", async () => {
    const client = harness.connect();
    expect(client.status.freshness).toBe("offline");
    const a = follow(client, ["a"]);
    await until(client, ({ state }) => state === "connecting");
    expect(client.status.freshness).toBe("catching up");
    const first = await harness.live(client);
    expect([client.status.freshness, a.subscription.freshness]).toEqual(["live", "live"]);

    const b = follow(client, ["b"]);
    (await harness.server.requests.next()).refuse(403);
    expect(b.subscription.freshness).toBe("catching up");
    await until(client, ({ state }) => state === "failed");
    expect([a.subscription.freshness, b.subscription.freshness]).toEqual(["live", "offline"]);
    b.subscription.close();
    await until(client, ({ state }) => state === "live");

    first.end();
    await until(client, ({ state }) => state === "waiting");
    expect([client.status.freshness, a.subscription.freshness]).toEqual(["offline", "offline"]);
    await harness.live(client);
    expect(a.subscription.freshness).toBe("live");
    client.close();
    expect([client.status.freshness, a.subscription.freshness]).toEqual(["offline", "offline"]);
  });

  test("a stream that fell silent is stale", async () => {
    const client = harness.connect({ retryMs: 3_600_000, maxRetryMs: 3_600_000 });
    follow(client, ["a"]);
    (await harness.server.requests.next()).ready(rev(10), 20);
    await until(client, ({ state }) => state === "live");
    await until(client, ({ state }) => state === "waiting");
    expect(client.status.freshness).toBe("stale");
  });

  // G9, rule 7: the stream stays, reads become strong, and are asked for now and then.
  test("a server that is behind is stale: subscribers poll until it is not", async () => {
    const client = harness.connect({ maxLagMs: 1000, pollMs: 20 });
    const { told, subscription } = follow(client, ["a"]);
    const request = await harness.live(client);
    await told.next();
    const lag = (n: number, ms: number) => request.send("frontier", { revision: rev(n), lag_ms: ms }, rev(n));
    lag(11, 1000);
    await until(client, ({ lagMs }) => lagMs === 1000);
    expect(client.status.freshness).toBe("live"); // the bound itself
    lag(12, 1001);
    await until(client, ({ freshness }) => freshness === "stale");
    expect(subscription.freshness).toBe("stale");
    expect(client.atLeast).toBeUndefined();
    expect(await told.next()).toEqual({ cause: "poll", topics: ["a"], revision: rev(12) });
    expect(await told.next()).toMatchObject({ cause: "poll" }); // again and again

    lag(13, 0);
    await until(client, ({ freshness }) => freshness === "live");
    expect(client.atLeast).toBe(rev(13));
    request.invalidate(rev(14), ["a"]);
    await vi.waitFor(() => expect(told.all.at(-1)).toMatchObject({ cause: "invalidate", revision: rev(14) }));
    expect(harness.server.requests.all).toHaveLength(1);
  });
});
