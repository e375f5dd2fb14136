import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Freshet } from "@freshet/query";
import { freshetTransport, topicsOfServices } from "@freshet/query/connect";
import { bindQueries } from "@freshet/query/tanstack";
import { QueryClient } from "@tanstack/react-query";
import { Faults } from "./faults.js";
import { MessageService } from "./gen/messages/v1/messages_service_pb.js";
import { followCommits } from "./commits.js";
import { Trace } from "./trace.js";

// The inspector looks on, and may get in the way, between the page and its
// network. An app without one leaves both out.
export const faults = new Faults((input, init) => globalThis.fetch(input, init));
export const trace = new Trace(faults.fetch);

/** The stream: one for all tabs of the browser. */
export const freshet = new Freshet({ url: "/events", fetch: faults.fetch });

export const queryClient = new QueryClient({
  // The stream says when data is stale; time does not.
  defaultOptions: { queries: { staleTime: Infinity, refetchOnWindowFocus: false } },
});

/** The one line that makes every query live. */
export const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });

/** Joins each request to its query, by at-least out and the stamp back. */
export const transport = freshetTransport(
  freshet,
  createConnectTransport({ baseUrl: window.location.origin, fetch: trace.fetch }),
);

/** The generated client, for writes. */
export const client = createClient(MessageService, transport);

trace.follow(freshet, queries);
followCommits(queryClient, trace);
// Back at once, instead of after the back-off.
faults.onMended(() => freshet.retry());
