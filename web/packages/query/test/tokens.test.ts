import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { FreshetOptions } from "../src/client.js";
import { AccountChangedError, StreamEndedError, StreamRefusedError, TokenSourceError } from "../src/errors.js";
import { Tokens, type TokenSource } from "../src/tokens.js";
import { follow, Harness, until } from "./harness.js";
import { Queue, rev, type StreamRequest } from "./server.js";

export const jwt = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;

describe("the source", () => {
  const renewed = vi.fn();
  const left = vi.fn();
  const changed = vi.fn();
  const waits: number[] = [];
  const all: Tokens[] = [];
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => {
    for (const tokens of all.splice(0)) tokens.close();
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
    vi.clearAllMocks();
    waits.length = 0;
  });

  function of(source: TokenSource): { tokens: Tokens; asked: ReturnType<typeof vi.fn<TokenSource>> } {
    const asked = vi.fn(source);
    const log = (_level: string, _message: string, details?: Readonly<Record<string, unknown>>) => {
      if (typeof details?.["waitMs"] === "number") waits.push(details["waitMs"]);
    };
    const tokens = new Tokens({ source: asked, retryMs: 1000, maxRetryMs: 30_000, log, renewed, left, changed });
    all.push(tokens);
    return { tokens, asked };
  }
  const inSeconds = (s: number) => Math.floor(Date.now() / 1000) + s;

  test.each([
    ["a JWT's exp", (n: number) => jwt({ sub: "ada", n, exp: inSeconds(100) })],
    ["what it says", (n: number) => ({ token: `opaque-${n}`, expires: new Date(Date.now() + 100_000) })],
    ["what it says first", (n: number) => ({ token: jwt({ n, exp: inSeconds(9) }), expires: new Date(Date.now() + 100_000) })],
  ])("is asked for another before %s, when 80 to 90 % of the time are over", async (_name, make) => {
    vi.setSystemTime(1_700_000_000_000);
    let n = 0;
    const at: number[] = [];
    const { tokens, asked } = of(() => {
      at.push(Date.now());
      return make(++n);
    });
    const first = await tokens.get();
    for (let i = 0; i < 200; i++) await vi.advanceTimersByTimeAsync(10_000);
    expect(await tokens.get()).not.toBe(first);
    const lives = at.slice(1).map((time, i) => time - at[i]!);
    expect(Math.min(...lives)).toBeGreaterThanOrEqual(79_000); // a JWT has whole seconds
    expect(Math.max(...lives)).toBeLessThanOrEqual(90_000);
    expect(new Set(lives).size).toBeGreaterThan(5); // at random
    expect(asked.mock.calls[0]![0]).toBe(false);
    expect(asked.mock.calls.slice(1).every(([refresh]) => refresh)).toBe(true);
    expect(renewed).toHaveBeenCalledTimes(asked.mock.calls.length - 1);
  });

  test.each([
    ["an opaque one", () => "opaque"],
    ["none", () => undefined],
    ["a JWT without exp", () => jwt({ sub: "ada" })],
  ])("is not asked by time for another than %s", async (_name, source) => {
    const { tokens, asked } = of(source);
    await tokens.get();
    await vi.advanceTimersByTimeAsync(100 * 24 * 3600_000);
    await tokens.get();
    expect(asked).toHaveBeenCalledOnce();
  });

  test("the server's word counts if it is the earlier one", async () => {
    const { tokens, asked } = of(() => "opaque");
    await tokens.get();
    tokens.counts("opaque", 100_000);
    tokens.counts("opaque", 200_000);
    tokens.counts("another", 1);
    await vi.advanceTimersByTimeAsync(79_000);
    expect(asked).toHaveBeenCalledOnce();
    await vi.advanceTimersByTimeAsync(11_000);
    expect(asked).toHaveBeenCalledTimes(2);
  });

  test("that has no other yet is asked seldom, not at once", async () => {
    vi.setSystemTime(1_700_000_000_000);
    const token = jwt({ exp: inSeconds(100) });
    const { tokens, asked } = of(() => token);
    await tokens.get();
    await vi.advanceTimersByTimeAsync(99_000);
    expect(asked.mock.calls.length).toBeGreaterThan(1);
    expect(asked.mock.calls.length).toBeLessThan(20);
    expect(renewed).not.toHaveBeenCalled();
  });

  test("by a clock that is wrong: what is over on arrival is sent, and not asked for again", async () => {
    const { tokens, asked } = of(() => jwt({ exp: 1000 }));
    for (let i = 0; i < 10; i++) await tokens.get();
    await vi.advanceTimersByTimeAsync(3600_000);
    expect(asked).toHaveBeenCalledOnce();
  });

  test("is asked once by all who wait, and answers all", async () => {
    let answer!: (token: string) => void;
    const { tokens, asked } = of(() => new Promise((resolve) => (answer = resolve)));
    const three = Promise.all([tokens.get(), tokens.get(), tokens.get()]);
    await vi.advanceTimersByTimeAsync(0);
    answer("t");
    expect(await three).toEqual(["t", "t", "t"]);
    expect(asked).toHaveBeenCalledOnce();
  });

  test("that fails is asked again with back-off, is told, and the token counts meanwhile", async () => {
    vi.setSystemTime(1_700_000_000_000);
    let failing = false;
    const { tokens, asked } = of(() => {
      if (failing) throw new Error("secret-in-message");
      return jwt({ n: asked.mock.calls.length, exp: inSeconds(3600) });
    });
    const first = await tokens.get();
    failing = true;
    tokens.renew();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(waits.length).toBeGreaterThan(5);
    expect(waits[0]).toBeLessThanOrEqual(1500);
    expect(Math.max(...waits)).toBeGreaterThan(25_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(45_000);
    expect(changed).toHaveBeenCalled();
    expect(tokens.error).toMatchObject({ message: "secret-in-message" });
    expect(await tokens.get()).toBe(first);
    await vi.advanceTimersByTimeAsync(3600_000); // it is over, and there is no other
    const before = asked.mock.calls.length;
    const error = await tokens.get().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(TokenSourceError);
    for (let i = 0; i < 50; i++) await tokens.get().catch(() => {});
    expect(asked.mock.calls.length).toBe(before); // the wait is for all
    expect((error as Error).message).not.toContain("secret");
    failing = false;
    await vi.advanceTimersByTimeAsync(45_000);
    expect(tokens.error).toBeUndefined();
    expect(renewed).toHaveBeenCalledOnce();
    expect(await tokens.get()).not.toBe(first);
  });

  test("that doesn't answer has failed after 30 s, and is told by its signal", async () => {
    let signal!: AbortSignal;
    const { tokens } = of((_refresh, s) => {
      signal = s;
      return new Promise(() => {});
    });
    const error = tokens.get().catch((e: unknown) => e);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await error).toBeInstanceOf(TokenSourceError);
    expect(signal.aborted).toBe(true);
  });

  test("is asked once for one that is refused, and no more than once in a while", async () => {
    const { tokens, asked } = of(() => `t${asked.mock.calls.length}`);
    expect(await tokens.get()).toBe("t1");
    expect(tokens.refuse("t1")).toBe(true);
    expect(tokens.refuse("t1")).toBe(true); // by another request of the same moment
    expect(await tokens.get()).toBe("t2");
    expect(tokens.refuse("t1")).toBe(true); // there is another already
    for (let i = 0; i < 20; i++) {
      expect(tokens.refuse("t2")).toBe(false);
      expect(await tokens.get()).toBe("t2");
    }
    expect(asked.mock.calls.map(([refresh]) => refresh)).toEqual([false, true]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(await tokens.get()).toBe("t3");
  });

  test("of another account: whoever asked for the one before gets none", async () => {
    let sub: string | undefined = "ada";
    const { tokens } = of(() => sub && jwt({ sub }));
    await tokens.get();
    for (const next of ["grace", undefined, "ada"]) {
      sub = next;
      left.mockClear();
      tokens.refuse(await tokens.get());
      await vi.advanceTimersByTimeAsync(1000);
      await expect(tokens.get()).rejects.toBeInstanceOf(AccountChangedError);
      expect(left).toHaveBeenCalledOnce();
      expect(await tokens.get()).toBe(next && jwt({ sub: next }));
    }
    expect(renewed).not.toHaveBeenCalled();
  });

  test("of an account that is left: what it answers then is nobody's", async () => {
    const answers: ((token: string) => void)[] = [];
    const { tokens, asked } = of(() => new Promise((resolve) => answers.push(resolve)));
    const old = tokens.get().catch((e: unknown) => e);
    await vi.advanceTimersByTimeAsync(0);
    tokens.forget();
    const next = tokens.get();
    await vi.advanceTimersByTimeAsync(0);
    answers[0]!("ada's");
    answers[1]!("grace's");
    expect(await old).toBeInstanceOf(AccountChangedError);
    expect(await next).toBe("grace's");
    expect(asked.mock.calls.map(([refresh, signal]) => [refresh, signal.aborted])).toEqual([[false, true], [false, false]]);
  });

  // At every moment between its answer and who waits for it.
  test.each([0, 1, 2, 3, 4, 5, 6, 7, 8])("that answers %d ticks before the account is left", async (ticks) => {
    let sub = "ada";
    const { tokens } = of(async () => jwt({ sub }));
    tokens.get().catch(() => {});
    for (let i = 0; i < ticks; i++) await Promise.resolve();
    tokens.forget();
    sub = "grace";
    expect(await tokens.get()).toBe(jwt({ sub: "grace" }));
    expect(left).not.toHaveBeenCalled();
  });

  test("of a client that is closed, on a server say, is asked, and nothing by time", async () => {
    const { tokens, asked } = of(() => ({ token: `t${asked.mock.calls.length}`, expires: new Date(Date.now() + 10_000) }));
    tokens.close();
    expect(await tokens.get()).toBe("t1");
    expect(vi.getTimerCount()).toBe(0);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked).toHaveBeenCalledOnce();
    expect(await tokens.get()).toBe("t2");
  });

  test("issuer and subject say whose it is", async () => {
    const accountOf = (token: string | undefined) => of(() => token).tokens.account();
    expect(await accountOf(jwt({ iss: "i", sub: "ädä" }))).toBe('["i","ädä"]');
    expect(await accountOf(undefined)).toBe("");
    for (const token of ["x", "x.y.z", jwt({}), jwt({ sub: "" }), jwt({ sub: 1 })]) expect(await accountOf(token)).toBeUndefined();
  });
});

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
