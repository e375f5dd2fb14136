import { createInterface } from "node:readline";
import { fromJson, toJson, type DescMessage, type JsonValue, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createQueryOptions } from "@connectrpc/connect-query-core";
import { createConnectTransport } from "@connectrpc/connect-web";
import { QueryClient, QueryObserver, type QueryKey } from "@tanstack/query-core";
import {
  CreateMessageRequestSchema,
  GetMessageRequestSchema,
  GetMessageResponseSchema,
  ListMessagesRequestSchema,
  ListMessagesResponseSchema,
  MessageService,
} from "../../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { freshetTransport, topicsOfServices } from "../../src/connect.js";
import { Freshet } from "../../src/index.js";
import { bindQueries } from "../../src/tanstack.js";

// Lets `freshet conformance client` judge this package (docs/conformance.md).

interface Command {
  do: "start" | "write";
  url: string;
  queries: { name: string; procedure: string; request: JsonValue }[];
  request: JsonValue;
  touches?: string[];
}

/** What a code is called on the wire. */
const codeName = (code: Code) => Code[code].replace(/[A-Z]/g, (c, at: number) => (at > 0 ? "_" : "") + c.toLowerCase());

function start({ url, queries: commanded }: Command) {
  const freshet = new Freshet({ url: `${url}/events` });
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, retry: Infinity } } });
  const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
  const transport = freshetTransport(freshet, createConnectTransport({ baseUrl: url, fetch: freshet.fetch }));
  queryClient.mount();
  const keys = new Map<string, QueryKey>();
  for (const { name, procedure, request } of commanded) {
    const get = procedure.endsWith("/GetMessage");
    const options = get
      ? createQueryOptions(MessageService.method.getMessage, fromJson(GetMessageRequestSchema, request), { transport })
      : createQueryOptions(MessageService.method.listMessages, fromJson(ListMessagesRequestSchema, request), { transport });
    const final = [Code.NotFound, Code.InvalidArgument]; // an answer, and a mistake
    const retry = (_: number, error: Error) => !final.includes(ConnectError.from(error).code);
    const observer = new QueryObserver(queryClient, { ...(options as object), queryKey: options.queryKey, retry } as never);
    const schema: DescMessage = get ? GetMessageResponseSchema : ListMessagesResponseSchema;
    keys.set(name, options.queryKey);
    let last = "";
    const show = () => {
      const { data, error } = observer.getCurrentResult();
      if (!data && !error) return;
      const line = JSON.stringify({
        query: name,
        data: data ? toJson(schema, data as Message) : null,
        error: error ? codeName(ConnectError.from(error).code) : "",
        stale: queries.reportOf(options.queryKey)?.freshness !== "live",
      });
      if (line !== last) console.log(line);
      last = line;
    };
    observer.subscribe(show);
    queries.onChange(show);
    show();
  }
  const client = createClient(MessageService, transport);
  return ({ request, touches }: Command) => {
    const write = () => client.createMessage(fromJson(CreateMessageRequestSchema, request));
    if (!touches) return write();
    // What a mutation touches is said by what it shows at once: here nothing.
    const updates = touches.map((name) => ({ filters: { queryKey: keys.get(name)! }, update: (data: unknown) => data }));
    return queries.optimistic({ updates, write });
  };
}

let write: ReturnType<typeof start> | undefined;
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as Command;
  if (command.do === "start") write = start(command);
  else await write?.(command);
}
process.exit();
