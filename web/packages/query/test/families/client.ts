import { createInterface } from "node:readline";
import {
  createFileRegistry,
  fromBinary,
  fromJson,
  toJson,
  type DescMethodUnary,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createInfiniteQueryOptions, createQueryOptions } from "@connectrpc/connect-query-core";
import { createConnectTransport } from "@connectrpc/connect-web";
import { InfiniteQueryObserver, QueryClient, QueryObserver, type InfiniteData, type QueryKey } from "@tanstack/query-core";
import { freshetTransport, topicsOfServices } from "../../src/connect.js";
import { Freshet } from "../../src/index.js";
import { bindQueries } from "../../src/tanstack.js";
import type { LookRequest, LookRequestSchema, Row, RowSchema } from "../gen/boards/v1/rows_pb.js";

// What TestFamilies_G3_model (internal/systemtest) has beside its Go clients: one page,
// which shows the places of services whose contracts it learns when it starts. Each
// place is a query of another kind: of connect-query, in pages, of a function of the
// page's own. A line is written whenever one of them shows something else.

type Look = DescMethodUnary<typeof LookRequestSchema, typeof RowSchema>;

interface Family {
  readonly service: string;
  /** A FileDescriptorSet, in base64. */
  readonly files: string;
  readonly places: readonly JsonValue[];
}

const rowsOnAPage = 1;

function start(url: string, families: readonly Family[]): void {
  const freshet = new Freshet({ url: `${url}/events` });
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, retry: Infinity } } });
  const registries = families.map(({ files }) => createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(files, "base64"))));
  const services = families.map(({ service }, index) => registries[index]!.getService(service)!);
  const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(...services) });
  const transport = freshetTransport(freshet, createConnectTransport({ baseUrl: url, fetch: freshet.fetch }));
  queryClient.mount();

  families.forEach(({ places }, family) => {
    const look = services[family]!.method["look"] as unknown as Look;
    const messages = { registry: registries[family]! };
    const json = (row: Row) => toJson(look.output, row as Message as Row, messages) as JsonObject;

    /** Writes what a query shows now, unless it is what it has written. */
    const writer = (place: number, queryKey: QueryKey, show: () => JsonValue | undefined) => {
      let last = "";
      const write = () => {
        const row = queries.reportOf(queryKey)?.freshness === "live" ? show() : undefined;
        const line = JSON.stringify({ family, place, row: row ?? null });
        if (line !== last) console.log(line);
        last = line;
      };
      queries.onChange(write);
      return write;
    };

    places.forEach((asked, place) => {
      const request = fromJson(look.input, asked) as LookRequest;
      if (place % 3 === 1) {
        const options = createInfiniteQueryOptions(look, { ...request, pageSize: rowsOnAPage, skip: 0 } as never, {
          transport,
          pageParamKey: "skip",
          getNextPageParam: (last: Row, all: Row[]) =>
            last.a.length < rowsOnAPage ? undefined : all.reduce((n, { a }) => n + a.length, 0),
        } as never);
        const observer = new InfiniteQueryObserver(queryClient, options as never);
        const write = writer(place, options.queryKey, () => {
          const { data, hasNextPage, isFetching } = observer.getCurrentResult();
          if (!data || hasNextPage || isFetching) return undefined;
          const pages = (data as InfiniteData<Row>).pages.map(json);
          const a = pages.flatMap((page) => (page["a"] as JsonValue[] | undefined) ?? []);
          return { ...pages[0]!, a };
        });
        observer.subscribe(({ hasNextPage, isFetching }) => {
          if (hasNextPage && !isFetching) void observer.fetchNextPage({ cancelRefetch: false });
          write();
        });
        return;
      }
      const client = createClient(services[family]!, transport) as unknown as Record<
        string,
        (request: LookRequest, options: { signal: AbortSignal }) => Promise<Row>
      >;
      const options =
        place % 3 === 0
          ? createQueryOptions(look, request, { transport })
          : {
              queryKey: ["place", family, place],
              queryFn: ({ signal }: { signal: AbortSignal }) => client["look"]!(request, { signal }),
              structuralSharing: (before: unknown, after: unknown) =>
                before && JSON.stringify(json(before as Row)) === JSON.stringify(json(after as Row)) ? before : after,
            };
      const observer = new QueryObserver<Row>(queryClient, options as never);
      const write = writer(place, options.queryKey, () => {
        const { data } = observer.getCurrentResult();
        return data && json(data);
      });
      observer.subscribe(write);
    });
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { url, families } = JSON.parse(line) as { url: string; families: Family[] };
  start(url, families);
}
process.exit();
