import { QueryClient, QueryObserver } from "@tanstack/query-core";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Freshet } from "../src/client.js";
import { freshetFetch } from "../src/fetch.js";
import { bindQueries } from "../src/tanstack.js";
import { ModelServer } from "./model-server.js";

const lifeS = 60;
const renewals = 1000;

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }));
afterEach(() => void vi.useRealTimers());

/** A server that knows tokens, and ends streams with theirs. */
class Guarded {
  readonly model = new ModelServer();
  readonly ends: string[] = [];
  refused = 0;
  issued = 0;
  reads = { busy: 0, quiet: 0 };

  issue = (): string => {
    const exp = Math.floor(Date.now() / 1000) + lifeS;
    return `x.${Buffer.from(JSON.stringify({ sub: "ada", jti: ++this.issued, exp })).toString("base64url")}.y`;
  };

  #way(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, Math.random() * 800));
  }

  fetch: typeof globalThis.fetch = async (input, init) => {
    const token = new Headers(init?.headers).get("authorization")?.replace("Bearer ", "");
    const exp = token ? (JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { exp: number }).exp : 0;
    const left = exp * 1000 - Date.now();
    if (left <= 0) {
      this.refused++;
      return Response.json({ code: "unauthenticated" }, { status: 401 });
    }
    const url = String(input);
    if (url.includes("/read/")) {
      const topic = url.endsWith("busy") ? "busy" : "quiet";
      this.reads[topic]++;
      const stamp = this.model.at; // before the data is read
      return Response.json({ last: this.model.last.get(topic) ?? null }, { headers: { "freshet-revision": stamp } });
    }
    await this.#way(); // what is written now is in the catch-up …
    const response = await this.model.fetch(input, init);
    const stream = [...this.model.streams].at(-1)!;
    setTimeout(() => {
      if (!this.model.streams.has(stream)) return;
      this.ends.push("expired");
      stream.end("expired");
    }, exp * 1000 - Date.now());
    await this.#way(); // … and now it is told by both streams
    return response;
  };
}

// One lot of notices, tokens and streams, at the speed of the clock that isn't there.
test(`${renewals} renewals under writes: no refetch, no lost notice, nobody sees them`, { timeout: 120_000 }, async () => {
  const server = new Guarded();
  const { model } = server;
  const token = vi.fn(async () => server.issue());
  const freshet = new Freshet({ url: "http://server/events", fetch: server.fetch, token, resetSpreadMs: 0 });
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, gcTime: Infinity } } });
  const queries = bindQueries({ freshet, queryClient });
  const fetch = freshetFetch(freshet, server.fetch);
  const show = (topic: "busy" | "quiet") => {
    const observer = new QueryObserver<{ last: string | null }>(queryClient, {
      queryKey: [topic],
      meta: { topics: [topic] },
      queryFn: async ({ signal }) => (await fetch(`http://server/read/${topic}`, { signal })).json() as never,
    });
    const stop = observer.subscribe(() => {});
    return { observer, stop };
  };
  const shown = [show("busy"), show("quiet")];
  // Besides the queries, somebody who is told each notice.
  const told: string[] = [];
  freshet.subscribe({ topics: ["busy", "quiet"], onInvalidate: ({ cause, revision }) => told.push(`${cause} ${revision}`) });
  await vi.advanceTimersByTimeAsync(4000);
  expect(freshet.status.state).toBe("live");
  const begun = { ...server.reads };
  expect(begun.quiet).toBeGreaterThan(0);
  told.length = 0;
  const statuses: string[] = [];
  freshet.onStatus(() => {
    const { state, freshness, error } = freshet.status;
    if (state !== "live" || freshness !== "live" || error) statuses.push(`${state} ${freshness} ${error?.message}`);
  });

  const written: string[] = [];
  while (server.issued <= renewals) {
    // Not in step with renewals: at every distance from them, after enough rounds.
    await vi.advanceTimersByTimeAsync(1 + Math.random() * 4000);
    written.push(`invalidate ${model.write("busy")}`);
  }
  await vi.advanceTimersByTimeAsync(4000);

  expect(token).toHaveBeenCalledTimes(renewals + 1);
  expect(model.requests.length).toBeGreaterThan(renewals); // a stream for each
  expect(server.ends).toEqual([]); // each was left before it ended
  expect(server.refused).toBe(0);
  expect(model.streams.size).toBe(1);
  expect(told).toEqual(written); // each once, in order, and nothing else
  expect(statuses).toEqual([]);
  expect(server.reads.quiet - begun.quiet).toBe(0);
  expect(server.reads.busy - begun.busy).toBe(written.length);
  expect(shown[0]!.observer.getCurrentResult().data).toEqual({ last: model.last.get("busy") });
  console.log(`${server.issued - 1} renewals, ${written.length} writes, ${told.length} notices, ${server.reads.busy - begun.busy} reads for them, 0 for renewals`);

  for (const { stop } of shown) stop();
  queries.close();
  freshet.close();
  queryClient.clear();
});

test("a source that is away for longer than a token lives costs a gap that is made good", async () => {
  const server = new Guarded();
  const { model } = server;
  let away = false;
  const token = async () => {
    if (away) throw new Error("away");
    return server.issue();
  };
  const freshet = new Freshet({ url: "http://server/events", fetch: server.fetch, token, resetSpreadMs: 0 });
  const stopBeating = model.beat();
  const told: string[] = [];
  freshet.subscribe({ topics: ["busy"], onInvalidate: ({ cause, revision }) => told.push(`${cause} ${revision}`) });
  await vi.advanceTimersByTimeAsync(4000);
  told.length = 0;
  away = true;
  await vi.advanceTimersByTimeAsync(lifeS * 1000 - 5000);
  expect(freshet.status).toMatchObject({ state: "live", tokenError: { message: "away" } });
  const before = model.write("busy");
  await vi.advanceTimersByTimeAsync(0);
  expect(told).toEqual([`invalidate ${before}`]);
  await vi.advanceTimersByTimeAsync(10_000); // it ended
  expect(server.ends).toEqual(["expired"]);
  expect(freshet.status).toMatchObject({ state: "waiting", freshness: "offline" });
  const requests = model.requests.length;
  const missed = model.write("busy");
  await vi.advanceTimersByTimeAsync(600_000);
  expect(model.requests.length).toBe(requests); // nothing is sent without a token
  away = false;
  await vi.advanceTimersByTimeAsync(45_000);
  expect(freshet.status).toMatchObject({ state: "live", freshness: "live" });
  expect(freshet.status.tokenError).toBeUndefined();
  expect(told).toEqual([`invalidate ${before}`, `invalidate ${missed}`]);
  stopBeating();
  freshet.close();
});
