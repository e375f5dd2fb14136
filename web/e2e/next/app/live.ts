import { addStaticKeyToTransport } from "@connectrpc/connect-query";
import { createConnectTransport } from "@connectrpc/connect-web";
import { bindQueries, Freshet, freshetTransport, topicsOfServices } from "@freshet/query/connect-query";
import { QueryClient } from "@tanstack/react-query";
import { MessageService } from "../gen/messages/v1/messages_service_pb";

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
