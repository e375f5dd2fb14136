import type { Queries } from "./tanstack.js";

/** A store of TanStack Query's `persistQueryClient`, whichever. */
export interface AnyPersister {
  persistClient(client: never): unknown;
  restoreClient(): unknown;
  removeClient(): unknown;
}

/** What such a store holds, as far as it is looked at. */
interface Stored {
  readonly timestamp: number;
  readonly buster: string;
  readonly clientState: object;
}

interface Store {
  persistClient(client: Stored): unknown;
  restoreClient(): Stored | undefined | Promise<Stored | undefined>;
  removeClient(): unknown;
}

/** The same store, of one account. */
export interface AccountPersister<P extends AnyPersister> {
  persistClient: P["persistClient"];
  restoreClient(): Promise<Awaited<ReturnType<P["restoreClient"]>>>;
  removeClient: P["removeClient"];
}

export interface AccountPersisterOptions<P extends AnyPersister> {
  /** The binding of the QueryClient that is kept. */
  readonly queries: Pick<Queries, "onEmptied">;
  /** Where it is kept: `createSyncStoragePersister(…)`, `createAsyncStoragePersister(…)`, or one of your own. */
  readonly persister: P;
  /**
   * Names whose page this is, now: the user's id, say, or "" if nobody is signed in.
   * Undefined while that isn't known: nothing is restored or kept meanwhile. It has to
   * be the next one's when `changeAccount` is called.
   */
  readonly account: () => string | undefined;
}

/**
 * A persister whose cache belongs to an account (G8): what was read as one is restored
 * for no other, its writes that waited for the network included, whatever `buster` is.
 *
 * - The name goes into the store with the data, before the `buster` of the options.
 *   What another account, or nobody known, has left there is removed unseen.
 * - `changeAccount` empties the store with the QueryClient; what is read afterwards is
 *   the next one's. A restore that is under way then brings nothing.
 * - Where `account` names another than the data in memory is of, and `changeAccount`
 *   was not called, nothing is kept any more, and the store is emptied: nobody can say
 *   whose answers have come since.
 */
export function accountPersister<P extends AnyPersister>({ queries, persister, account }: AccountPersisterOptions<P>): AccountPersister<P> {
  const store = persister as unknown as Store;
  let holder: string | undefined; // whose data the QueryClient holds; undefined: it holds none yet
  let emptied = false;

  /** Whose data is held, if that is whose page it is. */
  const who = (): string | undefined => {
    const now = account();
    holder ??= now;
    return now === holder ? now : undefined;
  };
  const empty = () => {
    if (emptied) return;
    emptied = true;
    // Stores write later than they are told, the last of what they were told: that is this, then.
    void settled(() => store.persistClient({ timestamp: Date.now(), buster: "", clientState: nothing() }));
    void settled(() => store.removeClient());
  };
  queries.onEmptied(() => {
    empty();
    holder = undefined;
  });

  const kept: Store = {
    persistClient(client) {
      const of = who();
      if (of === undefined) return holder === undefined ? undefined : empty();
      emptied = false;
      return store.persistClient({ ...client, buster: JSON.stringify([of, client.buster]) });
    },
    async restoreClient() {
      if (who() === undefined) return undefined;
      const stored = await store.restoreClient();
      if (!stored) return undefined;
      const [of, buster] = read(stored.buster);
      if (of !== who()) {
        await store.removeClient();
        return undefined;
      }
      return {
        ...stored,
        buster,
        // It is taken later: somebody else may have signed in before that.
        get clientState() {
          return of === who() ? stored.clientState : nothing();
        },
      };
    },
    removeClient: () => store.removeClient(),
  };
  return kept as unknown as AccountPersister<P>;
}

/** A store that fails here has nothing to say that a restore doesn't find out. */
async function settled(ask: () => unknown): Promise<void> {
  try {
    await ask();
  } catch {
    // What it still holds has its account's name.
  }
}

function nothing(): object {
  return { queries: [], mutations: [] };
}

/** Whose it is, and the buster; null: somebody else has written that. */
function read(text: unknown): readonly [string | null, string] {
  try {
    const parts = JSON.parse(String(text)) as unknown;
    if (Array.isArray(parts) && parts.length === 2 && parts.every((part) => typeof part === "string")) {
      return parts as [string, string];
    }
  } catch {
    // no JSON
  }
  return [null, ""];
}
