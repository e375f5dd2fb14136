import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AccountChangedError, TokenSourceError } from "../src/errors.js";
import { Tokens, type TokenSource } from "../src/tokens.js";
import { jwt } from "./harness.js";

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
