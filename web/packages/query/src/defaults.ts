import type { DefaultOptions, Query, QueryClient, QueryFunctionContext } from "@tanstack/query-core";

/** `persister` of a query, as far as it is used. */
export type Persister = (
  queryFn: (context: QueryFunctionContext) => unknown,
  context: QueryFunctionContext,
  query: Query,
) => Promise<unknown>;

/** `bindQueries` was called twice for one QueryClient: the second would see nothing. */
export class AlreadyBoundError extends Error {
  override readonly name = "AlreadyBoundError";
  constructor() {
    super(
      "this QueryClient is bound already: close() the other binding first " +
        "(after a hot reload, location.reload())",
    );
  }
}

const bound = new WeakSet<QueryClient>();

/**
 * Makes a persister the default of a client, also when other defaults are set
 * later: they would drop it without a word. Returns what undoes it.
 */
export function installDefault(queryClient: QueryClient, persister: Persister): () => void {
  if (bound.has(queryClient)) throw new AlreadyBoundError();
  bound.add(queryClient);
  const set = queryClient.setDefaultOptions;
  let theirs = queryClient.getDefaultOptions();
  const install = (options: DefaultOptions) => {
    theirs = options;
    const { queries } = options;
    set.call(queryClient, {
      ...options,
      queries: {
        ...queries,
        persister: queries?.persister ?? (persister as never),
        // A persister alone would make the default offlineFirst.
        networkMode: queries?.networkMode ?? "online",
      },
    });
  };
  queryClient.setDefaultOptions = install;
  install(theirs);
  return () => {
    bound.delete(queryClient);
    queryClient.setDefaultOptions = set;
    // What was set later may have been made of what was got, ours included.
    const { queries } = theirs;
    const ours = (queries?.persister as unknown) === persister;
    set.call(queryClient, ours ? { ...theirs, queries: { ...queries, persister: undefined as never } } : theirs);
  };
}
