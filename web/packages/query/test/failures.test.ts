import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StreamProtocolError, StreamRefusedError, StreamSilentError } from "../src/errors.js";
import { follow, Harness, until } from "./harness.js";
import { rev } from "./server.js";

describe("failures", () => {
  let harness: Harness;
  beforeEach(async () => {
    harness = await Harness.start();
  });
  afterEach(() => harness.close());

  test.each([400, 401, 403, 413])("status %d is final until retry()", async (status) => {
    const client = harness.connect();
    follow(client, ["a"]);
    (await harness.server.requests.next()).refuse(status, { code: "x", message: "why" });
    await until(client, ({ state }) => state === (status === 401 ? "unauthenticated" : "failed"));
    expect(client.status.error).toBeInstanceOf(StreamRefusedError);
    expect(client.status.freshness).toBe("offline");
    client.retry();
    await harness.live(client);
    expect(client.status.error).toBeUndefined();
    expect(harness.server.requests.all).toHaveLength(2);
  });

  test.each([429, 503])("status %d is retried, not before Retry-After", async (status) => {
    const client = harness.connect();
    follow(client, ["a"]);
    (await harness.server.requests.next()).refuse(status, {}, { "retry-after": "1" });
    await until(client, ({ state }) => state === "waiting");
    const began = Date.now();
    await harness.live(client);
    expect(Date.now() - began).toBeGreaterThan(900);
  });

  test("a stream that falls silent is cut and resumed", async () => {
    const client = harness.connect();
    follow(client, ["a"]);
    const silent = await harness.server.requests.next();
    silent.ready(rev(10), 40);
    await silent.gone; // 2.5 heartbeats
    const second = await harness.server.requests.next();
    expect(client.status.error).toBeInstanceOf(StreamSilentError);
    expect(second.lastEventId).toBe(rev(10));
  });

  // F19: an idle, healthy stream is left alone; comments count as life.
  test("a stream with heartbeats is not cut", async () => {
    const client = harness.connect();
    follow(client, ["a"]);
    const request = await harness.server.requests.next();
    request.ready(rev(10), 200); // cut after 500 ms without a byte
    const beat = setInterval(() => request.write(":\n\n"), 50);
    const cut = await Promise.race([
      request.gone.then(() => true),
      new Promise<boolean>((resolve) => setTimeout(resolve, 1200, false)),
    ]);
    clearInterval(beat);
    expect(cut).toBe(false);
  });

  test.each([
    ["no JSON", "event: invalidate\ndata: {\n\n"],
    ["no revision", "event: ready\ndata: {}\n\n"],
    ["an id that is no revision", `id: 7\nevent: frontier\ndata: {"revision":"${rev(11)}"}\n\n`],
    ["topics that are no list", `event: invalidate\ndata: {"revision":"${rev(11)}","topics":"a"}\n\n`],
  ])("a frame with %s is an error, and is asked for again", async (_name, text) => {
    const client = harness.connect();
    follow(client, ["a"]);
    const request = await harness.live(client);
    request.write(text);
    const second = await harness.server.requests.next();
    expect(client.status.error).toBeInstanceOf(StreamProtocolError);
    expect(second.lastEventId).toBe(rev(10));
  });

  test("an unknown event is ignored", async () => {
    const client = harness.connect();
    const { told } = follow(client, ["a"]);
    const request = await harness.live(client);
    await told.next();
    request.write("event: weather\ndata: rain\n\nretry: 7\n\n");
    request.invalidate(rev(11), ["a"]);
    expect(await told.next()).toMatchObject({ revision: rev(11) });
  });

  test("a page in place of a stream is not one", async () => {
    const client = harness.connect();
    follow(client, ["a"]);
    const request = await harness.server.requests.next();
    request.response.writeHead(200, { "content-type": "text/html" }).end("<p>Log in");
    await until(client, ({ state }) => state === "waiting");
    expect(client.status.error).toBeInstanceOf(StreamProtocolError);
    await harness.live(client);
    expect(harness.server.requests.all).toHaveLength(2);
  });

  test("headers are asked for on each attempt", async () => {
    let token = 0;
    const client = harness.connect({ headers: async () => ({ authorization: `Bearer ${++token}` }) });
    follow(client, ["a"]);
    const first = await harness.live(client);
    expect(first.request.headers.authorization).toBe("Bearer 1");
    first.end();
    expect((await harness.server.requests.next()).request.headers.authorization).toBe("Bearer 2");
  });
});
