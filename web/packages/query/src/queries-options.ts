import type { Query, QueryClient, QueryFunctionContext, QueryKey } from "@tanstack/query-core";
import type { Attempt } from "./attempt.js";
import type { Freshet, Freshness } from "./client.js";
import type { Entry } from "./registry.js";
import type { Revision } from "./revision.js";
import type { Flight, Phase } from "./rule-types.js";

export interface QueriesOptions {
  readonly freshet: Pick<
    Freshet,
    "subscribe" | "onFrame" | "onStatus" | "status" | "freshnessOf" | "atLeast"
  >;
  readonly queryClient: QueryClient;
  /**
   * What a query with this key depends on, if the key says it; see
   * `topicsOfServices` in ./connect. `meta: {topics}` of a query comes first;
   * else its requests tell, once it has been fetched through `freshetTransport`.
   */
  readonly topicsOf?: (queryKey: QueryKey) => readonly string[];
}

/** Where one query stands. */
export interface QueryReport {
  readonly queryKey: QueryKey;
  readonly topics: readonly string[];
  readonly phase: Phase;
  readonly watched: boolean;
  readonly need: Revision | undefined;
  readonly asked: Revision | undefined;
  readonly have: Revision | undefined;
  /** The data holds all that was told of its topics. */
  readonly fresh: boolean;
  /** That, and how well its topics are followed: `live` is both. */
  readonly freshness: Freshness;
}

/** `meta.topics` of a query. */
export type Topics = readonly string[] | ((queryKey: QueryKey) => readonly string[]);

/** @internal */
export function reportOf({ query, topics, rule }: Entry<Query>, freshet: Pick<Freshet, "freshnessOf">): QueryReport | undefined {
  if (topics.length === 0) return undefined;
  const { phase, watched, need, have, fresh } = rule;
  const { queryKey } = query;
  const followed = freshet.freshnessOf(topics);
  // What the stream told may still be on its way to be read.
  const freshness = followed === "live" && !fresh ? "catching up" : followed;
  return { queryKey, topics, phase, watched, need, asked: rule.flight?.atLeast, have, fresh, freshness };
}

/** @internal A fetch of one query, as the persister or the cache's events see it. */
export interface Run {
  readonly flight: Flight;
  /** Its requests; undefined: only its ends are seen. */
  readonly attempt?: Attempt;
  /** What had been told when it began. */
  readonly heard?: Revision;
  /** What is to be said of its success. */
  outcome: { readonly stamp: Revision | undefined } | "dropped";
  /** What ended it, maybe not for good. */
  error?: unknown;
}

/** @internal A run that went through our persister. */
export type SeenRun = Run & { readonly attempt: Attempt };

/** An answer of a past epoch came to a query that has nothing to show instead. */
export class StaleAnswerError extends Error {
  override readonly name = "StaleAnswerError";
}

/** What the cache says of an update, as far as it is looked at. */
export interface UpdateAction {
  readonly type: string;
  readonly manual?: boolean;
  readonly state?: object;
}

/** `persister` of a query, as far as it is used. */
export type Persister = (
  queryFn: (context: QueryFunctionContext) => unknown,
  context: QueryFunctionContext,
  query: Query,
) => Promise<unknown>;
