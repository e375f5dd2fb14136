import type { Query } from "@tanstack/query-core";
import type { Entry } from "./registry.js";
import { parseRevision, type Revision } from "./revision.js";

/** What goes with a query's data into a dehydrated state, and comes back with it. */
interface Kept {
  readonly have: Revision;
  readonly topics: readonly string[];
}

/**
 * Keeps the age of the data in the query's state, where `dehydrate` and the
 * persisters of TanStack Query take it along. Set in place: nobody renders it.
 * Not while writes are shown over it, which nothing would take away again; nor if the
 * topics are the caller's, since nobody knows who it will be.
 */
export function keep({ query, rule, topics, claimed }: Entry<Query>, patched: boolean): void {
  const state = query.state as { freshet?: Kept };
  const known = rule.held && !rule.blind && !rule.doubted && query.state.data !== undefined;
  const have = known && !patched && !claimed ? rule.have : undefined;
  if (!have) delete state.freshet;
  else if (state.freshet?.have !== have || state.freshet.topics !== topics) state.freshet = { have, topics };
}

/**
 * It has been in a store, or on another machine: what can't be read is unknown, and so
 * is the age of data of a history that is over.
 */
export function keptOf(
  state: object,
  isCurrent: (stamp: Revision) => boolean,
): { have: Revision | undefined; topics: readonly string[] } | undefined {
  const { have, topics } = ((state as { freshet?: unknown }).freshet ?? {}) as { have?: unknown; topics?: unknown };
  const revision = parseRevision(have);
  if (!revision || !Array.isArray(topics) || !topics.every((topic) => typeof topic === "string")) return undefined;
  return { have: isCurrent(revision) ? revision : undefined, topics };
}
