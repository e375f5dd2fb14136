// Compiled against the packed package, never run: the public API by its types.
import { create, getOption } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { Freshet, freshetFetch, parseRevision, StreamRefusedError } from "@freshet/query";
import type { Frame, Freshness, Invalidation, Logger, Revision, State, Status, Subscription } from "@freshet/query";
import { freshetInterceptor, freshetTransport, topicsOf, topicsOfServices } from "@freshet/query/connect";
import { reads } from "@freshet/query/gen/freshet/v1/options_pb.js";
import {
  FreshetProvider,
  useFreshet,
  useFreshetFrames,
  useFreshetStatus,
  useFreshness,
  useInvalidation,
  useQueryFreshness,
  type SeenFrame,
} from "@freshet/query/react";
import { bindQueries, StaleAnswerError, type Queries, type QueryReport } from "@freshet/query/tanstack";
import { QueryClient } from "@tanstack/query-core";
import type { ReactNode } from "react";
import { LibraryService, ListBooksRequestSchema } from "./gen/library_pb.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function is<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void;

// The core.
const logger: Logger = (level, message, details) => console.log(level, message, details?.["error"]);
const freshet = new Freshet({ url: "/events", token: async (refresh, signal) => (refresh && !signal.aborted ? { token: "new", expires: new Date() } : undefined), logger, tabs: { session: "ada" } });
is<Status["state"], State>();
is<typeof freshet.status.freshness, Freshness>();
is<Freshness, "live" | "catching up" | "stale" | "offline">();
is<Freshet["atLeast"], Revision | undefined>();
const subscription: Subscription = freshet.subscribe({
  topics: new Set(["books"]),
  since: () => parseRevision("00000001-0000000000000010"),
  onInvalidate: ({ cause, topics, revision }: Invalidation) => {
    is<typeof cause, "invalidate" | "ready" | "reset" | "poll" | "denied">();
    is<typeof topics, readonly string[]>();
    is<typeof revision, Revision>();
  },
});
subscription.setTopics(["books", "authors"]);
// @ts-expect-error a text is no revision before it was parsed
freshet.observe("00000001-0000000000000010");
// @ts-expect-error what to do is required
freshet.subscribe({ topics: ["books"] });
// @ts-expect-error no such option
new Freshet({ uri: "/events" });
is<ReturnType<typeof freshetFetch>, typeof fetch>();
freshet.onFrame((frame: Frame) => {
  if (frame.type === "invalidate") is<typeof frame.topics, readonly string[]>();
  // @ts-expect-error a heartbeat has no topics
  if (frame.type === "frontier") console.log(frame.topics);
});
if (freshet.status.error instanceof StreamRefusedError) is<typeof freshet.status.error.status, number>();

// Connect.
declare const inner: Transport;
is<ReturnType<typeof freshetInterceptor>, Interceptor>();
const transport: Transport = freshetTransport(freshet, inner);
const client = createClient(LibraryService, transport);
is<typeof client.listBooks extends (request: { parent: string }) => Promise<infer T> ? T extends { titles: string[] } ? true : false : false, true>();
const topics: string[] = topicsOf(LibraryService.method.listBooks, create(ListBooksRequestSchema, { parent: "shelves/1" }));
const declared: string[] = getOption(LibraryService.method.listBooks, reads).topics;

// TanStack Query.
const queryClient = new QueryClient();
const queries: Queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(LibraryService) });
is<ReturnType<typeof queries.report>, QueryReport[]>();
const written: Promise<number> = queries.optimistic({
  updates: [{ filters: { queryKey: ["books"] }, update: (data: string[], id: number | undefined) => [...data, `new ${id}`] }],
  write: async ({ signal }) => (signal.aborted ? 0 : 1),
});
// @ts-expect-error a QueryClient is required
bindQueries({ freshet });
is<StaleAnswerError["name"], "StaleAnswerError">();

// React.
export function App(): ReactNode {
  is<ReturnType<typeof useFreshet>, Freshet>();
  is<ReturnType<typeof useFreshetStatus>, Status>();
  is<ReturnType<typeof useFreshness>, Freshness>();
  is<ReturnType<typeof useQueryFreshness>, Freshness | undefined>();
  is<ReturnType<typeof useFreshetFrames>, readonly SeenFrame[]>();
  useInvalidation({ topics: ["books"], onInvalidate: ({ revision }) => void revision, enabled: true });
  // @ts-expect-error what to do is required
  useInvalidation({ topics: ["books"] });
  return <FreshetProvider client={freshet}>{[...topics, ...declared, String(written)].join()}</FreshetProvider>;
}
