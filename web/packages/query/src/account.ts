import type { Query, QueryClient } from "@tanstack/query-core";
import type { Entry } from "./registry.js";

/**
 * Empties a client: all that was read is forgotten, what is under way is called
 * off, and what is on show begins anew. `begun` is called for each query that
 * stays, empty, before it is fetched.
 */
export function empty(queryClient: QueryClient, begun: (query: Query) => void): void {
  const cache = queryClient.getQueryCache();
  // Writes that wait for the network would be sent as the next account's.
  queryClient.getMutationCache().clear();
  for (const query of cache.getAll()) {
    if (query.getObserversCount() === 0) {
      cache.remove(query);
      continue;
    }
    query.reset();
    begun(query);
  }
  void queryClient.refetchQueries({ type: "active" });
}

/**
 * A grant was withdrawn. What is on show is read again, and is denied or not;
 * what nobody shows is forgotten: it would have the next stream refused, too.
 */
export function forgetUnwatched(queryClient: QueryClient, entries: Iterable<Entry<Query>>): void {
  for (const { query, rule } of entries) {
    if (!rule.watched && rule.phase !== "flying") queryClient.getQueryCache().remove(query);
  }
}
