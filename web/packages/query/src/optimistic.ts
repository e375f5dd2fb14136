import type { Query, QueryFilters } from "@tanstack/query-core";
import { Attempt, controllerOf } from "./attempt.js";
import { AccountChangedError } from "./errors.js";
import { isBefore, type Revision } from "./revision.js";

/** A write that the page shows before the server has it. */
export interface OptimisticWrite<T> {
  /**
   * What it does to the data of which queries; called again for each newer
   * answer, and with what `write` returned, once it has. Look for that in the
   * data first: stamps are lower bounds, so an answer may hold a write that is
   * above its stamp, and would show it twice.
   */
  readonly updates: readonly {
    readonly filters: QueryFilters;
    // The data of any query: its key says which, its type doesn't.
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    readonly update: (data: any, written: T | undefined) => unknown;
  }[];
  /**
   * Sends it, with the signal given: that is what brings its stamp back, and keeps what
   * it has not sent yet from being sent as another account.
   */
  readonly write: (context: { readonly signal: AbortSignal }) => Promise<T>;
}

/** What the layer asks of the queries' owner. */
export interface LayerOwner {
  find(filters: QueryFilters): readonly Query[];
  show(query: Query, data: unknown): void;
  /** The query's data has to reach this. */
  needs(query: Query, revision: Revision): void;
  /** Nothing is known of what the data lacks: read it strongly. */
  reread(query: Query): void;
}

/** One write's effect on one query, until the query's data contains it. */
interface Patch {
  readonly update: (data: never, result: never) => unknown;
  /** Settles with the write, whichever way. */
  readonly written: Promise<unknown>;
  /** The write's stamp and what it returned, once it has. */
  revision?: Revision;
  result?: unknown;
}

/** What a query shows is what the server said, with the patches over it. */
interface Layer {
  base: unknown;
  /** A page was added to patched data: without a refetch there is no way back. */
  baked: boolean;
  patches: readonly Patch[];
}

/** How long an answer waits for a write to return, to know whether it is in. */
const settleMs = 2000;

/**
 * The writes that a page shows before the server has them. Every answer passes
 * through here on its way to the cache: it replaces what is under the patches,
 * and takes those away that it contains.
 */
export class OptimisticLayer {
  readonly #layers = new Map<Query, Layer>();
  readonly #owner: LayerOwner;
  readonly #writes = new Set<AbortController>(); // under way

  constructor(owner: LayerOwner) {
    this.#owner = owner;
  }

  async write<T>({ updates, write }: OptimisticWrite<T>): Promise<T> {
    const attempt = new Attempt(() => undefined, {}, true);
    const controller = controllerOf(attempt);
    const { signal } = controller;
    const left = new Promise<never>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error));
    });
    const written = Promise.race([write({ signal }), left]);
    this.#writes.add(controller);
    const patches = new Map<Patch, Query>();
    for (const { filters, update } of updates) {
      for (const query of this.#owner.find(filters)) {
        const patch: Patch = { update, written };
        patches.set(patch, query);
        this.#add(query, patch);
      }
    }
    let result: T | undefined;
    try {
      return (result = await written);
    } finally {
      this.#writes.delete(controller);
      // Of a write that failed nobody knows whether it did: the database does.
      // The same goes for one whose answer has no stamp.
      const revision = attempt.latest;
      for (const [patch, query] of patches) {
        if (revision) this.#confirm(query, Object.assign(patch, { revision, result }));
        else this.#remove(query, patch);
      }
    }
  }

  /** Another account is signed in: what a write sends from now on would be that one's. */
  left(): void {
    for (const controller of this.#writes) controller.abort(new AccountChangedError());
  }

  has(query: Query): boolean {
    return this.#layers.has(query);
  }

  #confirm(query: Query, patch: Patch & { revision: Revision }): void {
    const layer = this.#layers.get(query);
    if (layer?.patches.includes(patch)) this.#show(query, layer);
    this.#owner.needs(query, patch.revision);
  }

  #add(query: Query, patch: Patch): void {
    const layer = this.#layers.get(query) ?? { base: query.state.data, baked: false, patches: [] };
    layer.patches = [...layer.patches, patch];
    this.#layers.set(query, layer);
    this.#show(query, layer);
  }

  /**
   * Waits, but not for long, until it is known of each write under way whether
   * it is in an answer: one that is, and is patched as well, shows it twice.
   */
  async settled(query: Query): Promise<void> {
    const open = (this.#layers.get(query)?.patches ?? []).filter(({ revision }) => !revision);
    if (open.length === 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, settleMs)));
    await Promise.race([timeout, Promise.allSettled(open.map(({ written }) => written))]);
    clearTimeout(timer);
  }

  /** What to put into the cache for an answer. `partial`: a page more. */
  admit(query: Query, data: unknown, stamp: Revision | undefined, partial: boolean): unknown {
    const layer = this.#layers.get(query);
    if (!layer) return data;
    layer.base = data;
    layer.baked = partial;
    if (partial) return data; // it was added to what is patched already
    layer.patches = layer.patches.filter(({ revision }) => !revision || isBefore(stamp, revision));
    if (layer.patches.length === 0) this.#layers.delete(query);
    return patched(layer);
  }

  /** The data contains all up to `have`. */
  reached(query: Query, have: Revision | undefined): void {
    const layer = this.#layers.get(query);
    if (!layer) return;
    const patches = layer.patches.filter(({ revision }) => !revision || isBefore(have, revision));
    if (patches.length < layer.patches.length) this.#keep(query, layer, patches);
  }

  #remove(query: Query, patch: Patch): void {
    const layer = this.#layers.get(query);
    if (layer?.patches.includes(patch)) {
      this.#keep(query, layer, layer.patches.filter((other) => other !== patch));
    }
    this.#owner.reread(query);
  }

  forget(query: Query): void {
    this.#layers.delete(query);
  }

  #keep(query: Query, layer: Layer, patches: readonly Patch[]): void {
    layer.patches = patches;
    if (patches.length === 0) this.#layers.delete(query);
    this.#show(query, layer);
  }

  #show(query: Query, layer: Layer): void {
    if (layer.base === undefined || layer.baked) return; // nothing to put it on, or it is in
    this.#owner.show(query, patched(layer));
  }
}

function patched({ base, patches }: Layer): unknown {
  return patches.reduce((data, { update, result }) => update(data as never, result as never), base);
}
