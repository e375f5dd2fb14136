import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Devtools } from "@freshet/devtools";
import { bindQueries, Freshet, freshetTransport, topicsOfServices } from "@freshet/query/connect-query";
import { MutationCache, QueryCache, QueryClient } from "@tanstack/react-query";
import { Faults } from "./faults.js";
import { MessageService } from "./gen/messages/v1/messages_service_pb.js";
import { followCommits } from "./commits.js";
import { session } from "./session.js";

// The inspector looks on, and may get in the way, between the page and its
// network. An app without one leaves both out.
export const faults = new Faults((input, init) => globalThis.fetch(input, init));

/** The stream: one for all tabs of the browser that are of one account. */
export const freshet = new Freshet({
  url: "/events",
  fetch: faults.fetch,
  tabs: { session: session?.state.account?.account ?? "" },
});

/** Asking again brings the same answer. */
const final = new Set([Code.NotFound, Code.PermissionDenied, Code.Unauthenticated]);

/** The token is gone: perhaps somebody has signed out in another tab. */
function onError(error: unknown): void {
  if (ConnectError.from(error).code === Code.Unauthenticated) void session?.look();
}

export const queryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      // The stream says when data is stale; time does not.
      staleTime: Infinity,
      refetchOnWindowFocus: false,
      // As TanStack Query does, but for what is an answer.
      retry: (failures, error) => failures < 3 && !final.has(ConnectError.from(error).code),
    },
  },
});

/** The one line that makes every query live. */
export const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });

/** Looks on. */
export const devtools = new Devtools({ freshet, queries, fetch: faults.fetch });

/** Joins each request to its query, by at-least out and the stamp back. */
export const transport = freshetTransport(
  freshet,
  createConnectTransport({ baseUrl: window.location.origin, fetch: devtools.fetch }),
);

/** The generated client, for writes. */
export const client = createClient(MessageService, transport);

followCommits(queryClient, devtools);
// With the token before, the stream would end with that.
session?.onRenewed(() => freshet.renew());
// The session has ended, perhaps in another tab.
freshet.onStatus(() => {
  if (freshet.status.state === "unauthenticated") void session?.look();
});
// Back at once, instead of after the back-off.
faults.onMended(() => freshet.retry());
