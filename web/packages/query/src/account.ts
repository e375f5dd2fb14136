import type { Mutation, Query, QueryClient } from "@tanstack/query-core";
import { AccountChangedError } from "./errors.js";
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
  const gone = cache.getAll().filter((query) => begin(queryClient, query, begun));
  // Once there is nothing that `initialData` could find any more.
  for (const query of gone) for (const observer of query.observers) observer.setOptions(observer.options);
  for (const query of cache.getAll()) for (const observer of query.observers) dropPlaceholder(observer);
  void queryClient.refetchQueries({ type: "active" });
}

/**
 * One query anew; what nobody shows is removed. So is one that began with data
 * (`initialData`), which it keeps for good: then it is true, and each observer makes
 * another one of its options.
 */
export function begin(queryClient: QueryClient, query: Query, begun: (query: Query) => void): boolean {
  query.reset(); // also what is removed: observers keep the last query that they had an answer of
  const initial = query.state.data !== undefined;
  if (initial) query.setState({ data: undefined, dataUpdatedAt: 0, status: "pending" });
  if (initial || query.getObserversCount() === 0) queryClient.getQueryCache().remove(query);
  else begun(query);
  return initial;
}

/** It is being sent, or is about to be; what it sends from now on would be the next account's. */
export function disarm(mutation: Mutation): void {
  mutation.setOptions({ ...mutation.options, mutationFn: () => Promise.reject(new AccountChangedError()) });
}

/** An observer that shows an answer in the place of one to come would keep it until that has come. */
function dropPlaceholder(observer: Query["observers"][number]): void {
  if (!observer.getCurrentResult().isPlaceholderData) return;
  const { options } = observer;
  observer.setOptions({ ...options, placeholderData: undefined });
  observer.setOptions(options); // found anew, of what there is now
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
