import { Code, ConnectError, createClient, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CreateMessageResponseSchema, ListMessagesResponseSchema } from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { Caller } from "../src/caller.js";
import { freshetInterceptor, freshetTransport } from "../src/connect.js";
import { AccountChangedError, TokenSourceError } from "../src/errors.js";
import { freshetFetch } from "../src/fetch.js";
import { Nodes } from "../src/nodes.js";
import { Tokens, type TokenSource } from "../src/tokens.js";
import { FakeSource } from "./fake-source.js";
import { MessageService, parent } from "./message-api.js";
import { rev } from "./server.js";

/** A source whose caller has tokens, and a server that knows which are good. */
function scene(source: TokenSource, retryMs = 1000) {
  const asked = vi.fn(source);
  const freshet = new FakeSource();
  freshet.ready(rev(10));
  const tokens = new Tokens({
    source: asked, retryMs, maxRetryMs: 30_000, log: () => {}, renewed: () => {}, left: () => {}, changed: () => {},
  });
  Object.assign(freshet, { caller: new Caller(tokens, new Nodes("https://api.example/events")), needOf: () => undefined });
  return { freshet, asked, tokens };
}

describe("requests with tokens", () => {
  let good = new Set<string>();
  const seen: (string | null)[] = [];
  const closers: (() => void)[] = [];
  beforeEach(() => {
    seen.length = 0;
    good = new Set(["Bearer new"]);
  });
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  const check = ({ requestHeader }: HandlerContext) => {
    seen.push(requestHeader.get("authorization"));
    if (!good.has(requestHeader.get("authorization") ?? "")) throw new ConnectError("no", Code.Unauthenticated);
  };
  const router = (options?: Parameters<typeof createRouterTransport>[1]) =>
    createRouterTransport(({ service }) => service(MessageService, {
      listMessages: (_, context) => {
        check(context);
        return create(ListMessagesResponseSchema, { messages: [{ body: "a" }] });
      },
      createMessage: (_, context) => {
        check(context);
        return create(CreateMessageResponseSchema);
      },
    }), options);
  const ways = {
    freshetTransport: (source: TokenSource, retryMs?: number) => {
      const { freshet, asked, tokens } = scene(source, retryMs);
      closers.push(() => tokens.close());
      return { client: createClient(MessageService, freshetTransport(freshet, router())), asked };
    },
    freshetInterceptor: (source: TokenSource, retryMs?: number) => {
      const { freshet, asked, tokens } = scene(source, retryMs);
      closers.push(() => tokens.close());
      const interceptors = [freshetInterceptor(freshet as never)];
      return { client: createClient(MessageService, router({ transport: { interceptors } })), asked };
    },
  };

  describe.each(Object.entries(ways))("by %s", (_name, open) => {
    test("a read and a write that are refused are sent once more, with a fresh one", async () => {
      const { client, asked } = open((refresh) => (refresh ? "new" : "old"));
      expect((await client.listMessages({ parent })).messages[0]!.body).toBe("a");
      await client.createMessage({ parent });
      expect(seen).toEqual(["Bearer old", "Bearer new", "Bearer new"]);
      good = new Set();
      await expect(client.createMessage({ parent })).rejects.toMatchObject({ code: Code.Unauthenticated });
      expect(asked.mock.calls.map(([refresh]) => refresh)).toEqual([false, true]); // not twice in a second
    });

    test("refused again, it is an error", async () => {
      let n = 0;
      const { client, asked } = open(() => `t${++n}`, 0); // however long it takes
      await expect(client.listMessages({ parent })).rejects.toMatchObject({ code: Code.Unauthenticated });
      expect(seen).toEqual(["Bearer t1", "Bearer t2"]);
      expect(asked).toHaveBeenCalledTimes(2);
    });

    test("many that are refused at once ask once", async () => {
      const { client, asked } = open((refresh) => (refresh ? "new" : "old"));
      await Promise.all(Array.from({ length: 20 }, () => client.listMessages({ parent })));
      expect(asked).toHaveBeenCalledTimes(2);
    });

    test("a source that fails: nothing is sent, and it is worth trying again", async () => {
      const { client } = open(() => Promise.reject(new Error("secret")));
      const error = await client.listMessages({ parent }).catch((e: unknown) => e as ConnectError);
      expect(error).toMatchObject({ code: Code.Unavailable });
      expect(String(error)).not.toContain("secret");
      expect(seen).toEqual([]);
    });

    test("an Authorization of the app's own stays", async () => {
      good = new Set(["mine"]);
      const { client, asked } = open(() => "new");
      await client.listMessages({ parent }, { headers: { authorization: "mine" } });
      expect(seen).toEqual(["mine"]);
      expect(asked).not.toHaveBeenCalled();
    });
  });

  test("by freshetFetch, to the stream's origin and to no other", async () => {
    const { freshet, tokens } = scene((refresh) => (refresh ? "new" : "old"));
    closers.push(() => tokens.close());
    const sent: [string, string | null, string][] = [];
    const fetch = freshetFetch(freshet as never, async (input, init) => {
      const request = new Request(input, init);
      const authorization = request.headers.get("authorization");
      sent.push([request.url, authorization, await request.text()]);
      const refused = request.url.startsWith("https://api.example") && authorization !== "Bearer new";
      return new Response("", { status: refused ? 401 : 200 });
    });
    expect((await fetch("https://api.example/books")).status).toBe(200);
    await fetch("https://elsewhere.example/books");
    await fetch(new Request("https://api.example/books", { method: "POST", body: "b" }));
    tokens.refuse("new");
    expect(sent).toEqual([
      ["https://api.example/books", "Bearer old", ""],
      ["https://api.example/books", "Bearer new", ""],
      ["https://elsewhere.example/books", null, ""],
      ["https://api.example/books", "Bearer new", "b"],
    ]);
  });

  test("a write that is refused is repeated with its body", async () => {
    const { freshet, tokens } = scene((refresh) => (refresh ? "new" : "old"));
    closers.push(() => tokens.close());
    const bodies: string[] = [];
    const fetch = freshetFetch(freshet as never, async (input, init) => {
      const request = new Request(input, init);
      bodies.push(await request.text());
      return new Response("", { status: request.headers.get("authorization") === "Bearer new" ? 200 : 401 });
    });
    const response = await fetch(new Request("https://api.example/books", { method: "POST", body: "b" }));
    expect([response.status, bodies]).toEqual([200, ["b", "b"]]);
  });

  test("what an account asked for is neither sent nor answered as another", async () => {
    let give!: (token: string) => void;
    const { freshet, tokens } = scene(() => new Promise((resolve) => (give = resolve)));
    closers.push(() => tokens.close());
    const { caller } = freshet;
    const send = vi.fn(async () => "answer");
    const waiting = caller.send(new Headers(), false, send, () => false);
    await Promise.resolve();
    caller.left();
    give("t");
    await expect(waiting).rejects.toBeInstanceOf(AccountChangedError);
    expect(send).not.toHaveBeenCalled();

    const under = (reads: boolean) => {
      let answer!: (text: string) => void;
      const result = caller.send(new Headers(), reads, () => new Promise<string>((resolve) => (answer = resolve)), () => false);
      return new Promise<Promise<string>>((resolve) => setTimeout(() => {
        caller.left();
        answer("ada's");
        result.catch(() => {});
        resolve(result);
      }));
    };
    await expect(under(true).then((result) => result)).rejects.toBeInstanceOf(AccountChangedError);
    expect(await under(false).then((result) => result)).toBe("ada's"); // it is done
    expect(new TokenSourceError("x").cause).toBe("x");
  });
});
