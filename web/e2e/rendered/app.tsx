// The page of hydration.test.ts, as it is rendered on a server and in the browser.
import { createRegistry } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { addStaticKeyToTransport, TransportProvider, useQuery } from "@connectrpc/connect-query";
import { createConnectTransport } from "@connectrpc/connect-web";
import { bindQueries, Freshet, freshetTransport, topicsOfServices } from "@freshet/query/connect-query";
import { messageCodec } from "@freshet/query/connect";
import { HydrationBoundary, QueryClient, QueryClientProvider, type DehydratedState } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { MessageService } from "../../demo/src/gen/messages/v1/messages_service_pb.js";

/** JSON that holds the 64-bit integers of Timestamps, too. */
export const codec = messageCodec(createRegistry(MessageService.method.listMessages.output));
export const list = MessageService.method.listMessages;
export const input = { parent: "conversations/hydrated" };

/** What a browser has once, and a server per request. */
export function live(origin: string) {
  const freshet = new Freshet({ url: `${origin}/events`, tabs: false });
  const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });
  const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
  // Its key is part of connect-query's query keys: the same on the server and in the browser.
  const transport = addStaticKeyToTransport(freshetTransport(freshet, createConnectTransport({ baseUrl: origin })), "api");
  return { freshet, queryClient, queries, transport };
}

export function Page({ state, queryClient, transport, queries }: { state: string; transport: Transport } & Pick<ReturnType<typeof live>, "queryClient" | "queries">) {
  return (
    <html lang="en">
      <head>
        <title>Rendered</title>
        <link rel="icon" href="data:," />
      </head>
      <body>
        <TransportProvider transport={transport}>
          <QueryClientProvider client={queryClient}>
            <HydrationBoundary state={codec.deserialize(state) as DehydratedState}>
              <Messages queries={queries} />
            </HydrationBoundary>
          </QueryClientProvider>
        </TransportProvider>
        <script id="state" type="application/json" dangerouslySetInnerHTML={{ __html: state }} />
      </body>
    </html>
  );
}

function Messages({ queries }: Pick<ReturnType<typeof live>, "queries">) {
  const { data } = useQuery(list, input);
  const freshness = useSyncExternalStore(
    (changed) => queries.onChange(changed),
    () => queries.report()[0]?.freshness ?? "unknown",
    () => "rendered",
  );
  return (
    <main>
      <p role="status">{freshness}</p>
      <ul>
        {data?.messages.map(({ name, body }) => (
          <li key={name}>{body}</li>
        ))}
      </ul>
    </main>
  );
}
