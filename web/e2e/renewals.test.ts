import { Freshet } from "@freshet/query";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Program } from "./program.js";

// No browser: the client as it is, against the program and its issuer, whose
// tokens live for two seconds. The server counts them for so long that it ends no
// stream here (it allows clocks to be 30 s apart), so this is about the client.
const lifeS = 2;
const renewals = 20;

let program: Program;
beforeAll(async () => {
  program = await Program.start("--demo-auth", `--demo-token-life=${lifeS}s`);
});
afterAll(() => program?.close());

test(`${renewals} renewals of a real token under writes: each is told, and nothing is told twice`, async () => {
  const tokens: string[] = [];
  const sent: (string | null)[] = [];
  let open = 0;
  let most = 0;
  const states = new Set<string>();
  const freshet = new Freshet({
    url: `${program.url}/events`,
    token: async (_refresh, signal) => {
      const response = await fetch(`${program.url}/demo/token`, { method: "POST", body: new URLSearchParams({ account: "ada" }), signal });
      if (!response.ok) throw new Error(`the issuer answered ${response.status}`);
      tokens.push((await response.text()).trim());
      return tokens.at(-1);
    },
    fetch: async (input, init) => {
      sent.push(new Headers(init?.headers).get("authorization"));
      most = Math.max(most, ++open);
      init?.signal?.addEventListener("abort", () => open--, { once: true });
      return fetch(input, init);
    },
  });
  const told: string[] = [];
  freshet.subscribe({
    topics: ["conversations/7/messages", "conversations/8/messages"],
    onInvalidate: ({ cause, topics, revision }) => told.push(`${cause} ${topics.join()} ${revision}`),
  });
  await vi.waitFor(() => expect(freshet.status.state).toBe("live"), { timeout: 20_000 });
  expect(told).toHaveLength(1); // ready
  freshet.onStatus(() => states.add(`${freshet.status.state} ${freshet.status.error?.message ?? ""}`));

  for (let n = 1; tokens.length <= renewals; n++) {
    const before = told.length;
    await program.sql("insert into messages (conversation, author, body) values ('7', 'psql', $1)", `write ${n}`);
    // One commit is one notice, whichever stream brings it; its revision is its own.
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(before), { timeout: 20_000, interval: 2 });
    expect(told.slice(before)).toEqual([expect.stringMatching(/^invalidate conversations\/7\/messages /)]);
  }
  const at = told.length;
  await new Promise((resolve) => setTimeout(resolve, 500)); // in which something told twice would show
  expect(told.length).toBe(at);
  expect(new Set(told).size).toBe(told.length); // no revision twice
  expect(new Set(tokens).size).toBe(tokens.length);
  expect([...states].filter((state) => !state.startsWith("live "))).toEqual([]);
  expect(sent.length).toBeGreaterThanOrEqual(renewals); // a stream for each
  expect(sent).toEqual(tokens.slice(0, sent.length).map((token) => `Bearer ${token}`));
  expect(most).toBe(2); // while one takes over from another
  console.log(`${tokens.length - 1} renewals, ${sent.length} streams, ${at - 1} writes, as many notices`);
  freshet.close();
});
