import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { FreshetOptions } from "../src/client.js";
import { AccountChangedError, StreamEndedError, StreamRefusedError } from "../src/errors.js";
import type { TokenSource } from "../src/tokens.js";
import { follow, Harness, jwt, until } from "./harness.js";
import { Queue, rev, type StreamRequest } from "./server.js";

describe("a stream with tokens", () => {
  let harness: Harness;
  const lines = new Queue<string>();
  beforeEach(async () => {
    harness = await Harness.start();
  });
  afterEach(() => harness.close());

  const connect = (token: TokenSource, options: FreshetOptions = {}) =>
    harness.connect({ token, logger: (level, message, details) => lines.push(`${level} ${message} ${JSON.stringify(details)}`), ...options });
  const next = () => harness.server.requests.next();
  const bearer = ({ request }: StreamRequest) => request.headers.authorization;
  const expiring = (request: StreamRequest, revision: ReturnType<typeof rev>, expires_ms: number) =>
    request.send("ready", { revision, topics: 1, heartbeat_ms: 15_000, expires_ms }, revision);

  test("sends what it has, beside other headers, and nowhere else", async () => {
    let n = 0;
    const token = vi.fn(async () => `secret-${++n}`);
    const client = connect(token, { headers: () => ({ "x-mine": "yes" }) });
    follow(client, ["a"]);
    const first = await harness.live(client);
    expect(first.request.headers).toMatchObject({ authorization: "Bearer secret-1", "x-mine": "yes" });
    first.end();
    const second = await next();
    expect(bearer(second)).toBe("Bearer secret-1");
    expect(token).toHaveBeenCalledOnce();
    expect([first.request.url, second.request.url, ...lines.all, JSON.stringify(client.status)].join("\n")).not.toContain("secret");
  });

  test("refused, it is opened again at once with another", async () => {
    const client = connect((refresh) => (refresh ? "new" : "old"), { retryMs: 3_600_000, maxRetryMs: 3_600_000 });
    const { told } = follow(client, ["a"]);
    (await next()).refuse(401);
    expect(bearer(await harness.live(client))).toBe("Bearer new");
    await told.next();
  });

  test("refused again, it waits, says so, and tries again with fresh ones", async () => {
    let n = 0;
    const client = connect(() => `t${++n}`, { retryMs: 1000 }); // "lately" for the token, too: long, for a busy machine
    follow(client, ["a"]);
    const first = await next();
    first.refuse(401);
    const second = await next();
    const refused = Date.now();
    second.refuse(401, { code: "unauthenticated", message: "no" });
    await until(client, ({ state }) => state === "unauthenticated");
    expect(client.status.error).toMatchObject({ status: 401, code: "unauthenticated" });
    expect(client.status.freshness).toBe("offline");
    const third = await next();
    expect(Date.now() - refused).toBeGreaterThan(900); // a back-off
    expect([first, second, third].map(bearer)).toEqual(["Bearer t1", "Bearer t2", "Bearer t3"]);
    third.ready(rev(10));
    await until(client, ({ state }) => state === "live");
    expect(client.status.error).toBeUndefined();
  });

  test("is followed by another before it ends, which begins where it is", async () => {
    let n = 0;
    const client = connect(() => `t${++n}`);
    const { told } = follow(client, ["a"]);
    const first = await next();
    expiring(first, rev(10), 800);
    await told.next();
    const states: string[] = [];
    client.onStatus(() => states.push(client.status.state));
    first.invalidate(rev(11), ["a"]);
    await told.next();
    const began = Date.now();
    const second = await next();
    expect(Date.now() - began).toBeLessThan(800);
    expect([bearer(first), bearer(second), second.since("a")]).toEqual(["Bearer t1", "Bearer t2", rev(11)]);
    first.invalidate(rev(12), ["a"]); // still read
    expect(await told.next()).toMatchObject({ revision: rev(12) });
    second.invalidate(rev(12), ["a"]);
    second.ready(rev(12));
    await first.gone;
    second.invalidate(rev(13), ["a"]);
    expect(await told.next()).toMatchObject({ revision: rev(13) });
    expect(told.left).toBe(0);
    expect(new Set(states)).toEqual(new Set(["live"]));
  });

  test("goes on while its source fails, which is told", async () => {
    let failing = false;
    let n = 0;
    const client = connect(() => (failing ? Promise.reject(new Error("issuer down")) : `t${++n}`));
    const { told } = follow(client, ["a"]);
    const first = await next();
    expiring(first, rev(10), 500);
    await told.next();
    failing = true;
    await until(client, ({ tokenError }) => tokenError !== undefined);
    expect(client.status).toMatchObject({ state: "live", freshness: "live", tokenError: { message: "issuer down" } });
    first.invalidate(rev(11), ["a"]);
    await told.next();
    await new Promise((resolve) => setTimeout(resolve, 500)); // it is over
    first.write('retry: 10\nevent: end\ndata: {"reason":"expired"}\n\n');
    first.end();
    await until(client, ({ state }) => state === "waiting");
    expect(harness.server.requests.left).toBe(0); // nothing is sent that is over
    failing = false;
    const second = await next();
    expect([bearer(second), second.since("a")]).toEqual(["Bearer t2", rev(11)]);
    second.ready(rev(11));
    await until(client, ({ state, tokenError }) => state === "live" && tokenError === undefined);
    expect(told.left).toBe(0);
    expect(lines.all.join("\n")).not.toContain("issuer down");
  });

  test("ended since its token expired, it goes on at once with another", async () => {
    let n = 0;
    const client = connect(() => `t${++n}`, { retryMs: 3_600_000, maxRetryMs: 3_600_000 });
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client);
    await told.next();
    first.write('event: unheard-of\ndata: {"x":1}\n\n'); // of a later version
    first.invalidate(rev(11), ["a"]);
    await told.next();
    first.write('event: end\ndata: {"reason":"expired"}\n\n');
    const second = await next();
    expect([bearer(second), second.since("a")]).toEqual(["Bearer t2", rev(11)]);
    second.ready(rev(11));
    // A server that ends each at once is not asked all the time.
    second.write('event: end\ndata: {"reason":"expired"}\n\n');
    await until(client, ({ state }) => state === "waiting");
    expect(client.status.error).toMatchObject({ name: "StreamEndedError", reason: "expired" });
    expect(told.left).toBe(0);
  });

  test.each(["denied", "something new"])("ended as %s, it waits, and comes back with the same token", async (reason) => {
    const client = connect(() => "t", { retryMs: 150 });
    const { told } = follow(client, ["a", "b"]);
    const first = await harness.live(client);
    await told.next();
    first.write(`event: end\ndata: ${JSON.stringify({ reason })}\n\n`);
    await until(client, ({ state }) => state === "waiting");
    expect(client.status.error).toEqual(new StreamEndedError(reason));
    if (reason === "denied") expect(await told.next()).toEqual({ cause: "denied", topics: ["a", "b"], revision: rev(10) });
    const ended = Date.now();
    const second = await next();
    expect(Date.now() - ended).toBeGreaterThan(100);
    expect([bearer(second), second.since("a")]).toEqual(["Bearer t", rev(10)]);
    second.refuse(403, { code: "permission_denied", message: "no grant" });
    await until(client, ({ state }) => state === "failed");
    if (reason !== "denied") await told.next(); // by the refusal, then
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(told.left + harness.server.requests.left).toBe(0); // told once, and no loop
  });

  test("without a source, a refused cookie is final until renew()", async () => {
    const client = harness.connect();
    follow(client, ["a"]);
    (await next()).refuse(401);
    await until(client, ({ state }) => state === "unauthenticated");
    expect(client.status.error).toBeInstanceOf(StreamRefusedError);
    expect(bearer(await harness.server.requests.all[0]!)).toBeUndefined();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(harness.server.requests.left).toBe(0);
    client.renew(); // there is a new one
    await harness.live(client);
  });

  test("on its way with a cookie that is replaced, it is sent anew: the old one would be refused for good", async () => {
    const client = harness.connect();
    follow(client, ["a"]);
    const first = await next();
    client.renew();
    await first.gone;
    await harness.live(client);
  });

  test("that is renewed keeps to the Retry-After that its successor was told", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client);
    await told.next();
    client.renew();
    const refused = Date.now();
    (await next()).refuse(503, {}, { "retry-after": "1" });
    await until(client, ({ error }) => error !== undefined);
    client.renew();
    const second = await next();
    expect(Date.now() - refused).toBeGreaterThan(900);
    second.ready(rev(10));
    await first.gone;
    expect(told.left).toBe(0);
  });

  test("that is renewed by a cookie the server refuses goes on as it is", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client);
    await told.next();
    client.renew();
    (await next()).refuse(401);
    await until(client, ({ error }) => error !== undefined);
    expect(client.status).toMatchObject({ state: "live", freshness: "live" });
    first.invalidate(rev(11), ["a"]);
    await told.next();
  });

  test("that is denied to the next account, too, tells that one as well", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client);
    await told.next();
    first.write('event: end\ndata: {"reason":"denied"}\n\n');
    expect(await told.next()).toMatchObject({ cause: "denied" });
    (await next()).refuse(403);
    await until(client, ({ state }) => state === "failed");
    client.changeAccount();
    (await next()).refuse(403);
    expect(await told.next()).toMatchObject({ cause: "denied" });
  });

  test("a change of account ends it, and begins without a past", async () => {
    let who = "ada";
    const client = connect(() => jwt({ sub: who }));
    const { told } = follow(client, ["a"]);
    const first = await harness.live(client);
    await told.next();
    first.invalidate(rev(11), ["a"]);
    await told.next();
    const left = vi.fn(() => expect(client.atLeast).toBeUndefined());
    client.onAccountChange(left);
    let answer!: (text: string) => void;
    const read = client.caller.send(new Headers(), true, () => new Promise<string>((resolve) => (answer = resolve)), () => false);
    await vi.waitFor(() => expect(answer).toBeDefined());
    who = "grace";
    client.changeAccount();
    answer("ada's");
    await expect(read).rejects.toBeInstanceOf(AccountChangedError);
    await first.gone;
    const second = await harness.live(client, rev(11));
    expect(left).toHaveBeenCalledOnce();
    expect([bearer(second), second.since("a")]).toEqual([`Bearer ${jwt({ sub: "grace" })}`, ""]);
    // Whatever was read before is another's.
    expect(await told.next()).toEqual({ cause: "ready", topics: ["a"], revision: rev(11) });

    who = "ada";
    client.renew();
    await second.gone;
    expect((await harness.live(client, rev(11))).since("a")).toBe("");
    expect(left).toHaveBeenCalledTimes(2);
  });
});
