import { Code, createClient } from "@connectrpc/connect";
import { createQueryOptions } from "@connectrpc/connect-query";
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Freshet } from "../src/client.js";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { MessageApi, MessageService, parent, topic } from "./message-api.js";
import { rev } from "./server.js";

// A read that declares topics, by a request that has none: it is answered, and would
// look fresh for ever.

let source: FakeSource;
let api: MessageApi;
let queryClient: QueryClient;
let queries: Queries;

beforeEach(() => {
  source = new FakeSource();
  source.ready(rev(10));
  api = new MessageApi();
  queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(MessageService) });
});
afterEach(() => {
  queries.close();
  queryClient.clear();
});

/** By connect-query, or by a function of the page's own. */
function mount(request: { parent?: string; pageSize?: number }, own = false, meta?: { topics: string[] }) {
  const transport = freshetTransport(source, api.transport);
  const options = own
    ? {
        queryKey: ["own", request],
        queryFn: ({ signal }: { signal: AbortSignal }) => createClient(MessageService, transport).listMessages(request, { signal }),
      }
    : createQueryOptions(MessageService.method.listMessages, request, { transport });
  const observer = new QueryObserver(queryClient, { ...options, meta } as never);
  observer.subscribe(() => {});
  return observer as { getCurrentResult(): { data?: unknown; status: string } };
}
const settled = (observer: ReturnType<typeof mount>) =>
  vi.waitFor(() => expect(observer.getCurrentResult().status).not.toBe("pending"));

describe.each([
  ["connect-query", false],
  ["a query function", true],
])("%s", (_, own) => {
  test("it is shown, and its author is warned once", async () => {
    for (const pageSize of [1, 2]) {
      const observer = mount({ pageSize }, own);
      (await api.reads.next()).answer("a", rev(12));
      await settled(observer);
      expect(observer.getCurrentResult().data).toMatchObject({ messages: [{ body: "a" }] });
    }
    expect(source.topics.size).toBe(0);
    expect(source.warnings).toEqual([
      "freshet: /messages.v1.MessageService/ListMessages: an unset or empty field leaves the request without topics; " +
        'set those of {parent=**}/messages (empty: parent), or declare a topic for all in its place, if empty means "all". ' +
        "Nothing tells when this answer changes; if that is meant, give the query meta: {topics: []}.",
    ]);
  });

  test("nobody is warned of one that has topics, by its request or by the page", async () => {
    const followed = mount({ parent }, own);
    (await api.reads.next()).answer("a", rev(12));
    const told = mount({}, own, { topics: ["messages"] });
    (await api.reads.next()).answer("b", rev(12));
    const meant = mount({ pageSize: 1 }, own, { topics: [] });
    (await api.reads.next()).answer("c", rev(12));
    for (const observer of [followed, told, meant]) await settled(observer);
    expect([...source.topics].sort()).toEqual([topic, "messages"]);
    expect(source.warnings).toEqual([]);
  });

  test("nor of one that is refused", async () => {
    const observer = mount({}, own);
    (await api.reads.next()).fail(Code.InvalidArgument);
    await settled(observer);
    expect(source.warnings).toEqual([]);
  });

  test("a path that no row can have", async () => {
    const observer = mount({ parent: "conversations/" }, own);
    (await api.reads.next()).answer("a", rev(12));
    await settled(observer);
    expect(source.warnings).toEqual([expect.stringContaining("ListMessages: a path has an empty segment. Nothing tells")]);
  });
});

test("it is heard on the console, or by the logger", () => {
  const onConsole = vi.spyOn(console, "warn").mockImplementation(() => {});
  const quiet = new Freshet({ url: "http://127.0.0.1:1/events" });
  quiet.warn("a", {});
  quiet.close();
  expect(onConsole.mock.calls).toEqual([["a"]]);
  const logger = vi.fn();
  const logged = new Freshet({ url: "http://127.0.0.1:1/events", logger });
  logged.warn("b", { procedure: "p" });
  logged.close();
  expect(logger).toHaveBeenCalledWith("warn", "b", { procedure: "p" });
  expect(onConsole).toHaveBeenCalledTimes(1);
  onConsole.mockRestore();
});
