import type { Query, QueryKey } from "@tanstack/query-core";
import type { Freshet, Freshness } from "./client.js";
import type { Entry } from "./registry.js";
import type { Revision } from "./revision.js";
import type { Phase } from "./rule-types.js";

/**
 * A QueryClient of TanStack Query 5, from whichever package: react-query, vue-query,
 * svelte-query, solid-query and the rest each bring a query-core of a version of their
 * own, whose classes are the same to a program and different ones to TypeScript.
 */
export interface AnyQueryClient {
  getQueryCache(): object;
  getMutationCache(): object;
  getDefaultOptions(): object;
  setDefaultOptions(options: never): void;
  refetchQueries(filters: never): Promise<void>;
}

export interface QueriesOptions {
  readonly freshet: Pick<
    Freshet,
    "subscribe" | "warn" | "onFrame" | "onReset" | "onAccountChange" | "onRenewed" | "onStatus" | "status" | "freshnessOf" | "atLeast" | "isCurrent"
  >;
  readonly queryClient: AnyQueryClient;
  /**
   * What a query with this key depends on, if the key says it; see
   * `topicsOfServices` in ./connect. `meta: {topics}` of a query comes first;
   * else its requests tell, once it has been fetched through `freshetTransport`.
   * Undefined: only an answer says it, so data that came from elsewhere is read once.
   * A request that should have topics and has none is warned of, once for each
   * method; `meta: {topics: []}` says that a query is meant to have none.
   */
  readonly topicsOf?: ((queryKey: QueryKey) => readonly string[] | undefined) | undefined;
  /**
   * A fetch of a query with topics that has no answer for so long is called off
   * (TanStack Query's `CancelledError`), and tried again. Default 32 s: the
   * server's `--max-wait`, and 30 s for the answer. `Infinity`: never.
   */
  readonly flightTimeoutMs?: number | undefined;
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
  /** The data holds all that was told of its topics, and isn't what a mutation under way has shown. */
  readonly fresh: boolean;
  /** That, and how well its topics are followed: `live` is both. */
  readonly freshness: Freshness;
}

/** `meta.topics` of a query. */
export type Topics = readonly string[] | ((queryKey: QueryKey) => readonly string[]);

/** @internal */
export function reportOf({ query, topics, rule, mutations }: Entry<Query>, freshet: Pick<Freshet, "freshnessOf">): QueryReport | undefined {
  if (topics.length === 0) return undefined;
  const { phase, watched, need, have } = rule;
  const fresh = rule.fresh && !mutations?.size;
  const { queryKey } = query;
  const followed = freshet.freshnessOf(topics);
  // What the stream told may still be on its way to be read.
  const freshness = followed === "live" && !fresh ? "catching up" : followed;
  return { queryKey, topics, phase, watched, need, asked: rule.flight?.atLeast, have, fresh, freshness };
}

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

/** @internal What a query depends on, as far as it is declared; undefined: not at all. */
export function declaredTopics(query: Query, topicsOf: QueriesOptions["topicsOf"]): readonly string[] | undefined {
  const meta = query.meta?.["topics"] as Topics | undefined;
  const own = typeof meta === "function" ? meta(query.queryKey) : meta;
  if (own) return own;
  const known = topicsOf?.(query.queryKey) ?? [];
  return known.length > 0 ? known : undefined;
}

/** @internal Whether it depends on what only an answer says. */
export function isUnfollowed(query: Query, topicsOf: QueriesOptions["topicsOf"]): boolean {
  return topicsOf !== undefined && !query.meta?.["topics"] && topicsOf(query.queryKey) === undefined;
}
