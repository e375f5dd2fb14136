import type { Mutation, MutationCacheNotifyEvent, MutationObserver, Query, QueryCacheNotifyEvent, QueryClient, QueryFunctionContext, QueryKey } from "@tanstack/query-core";
import { begin, disarm, empty, forgetUnwatched } from "./account.js";
import { Attempt, isInfinite, watchSignal } from "./attempt.js";
import type { Freshet } from "./client.js";
import { installDefault, type Persister } from "./defaults.js";
import type { Frame } from "./frame.js";
import { keep, keptOf } from "./kept.js";
import type { Invalidation } from "./ledger.js";
import { OptimisticLayer, type OptimisticWrite } from "./optimistic.js";
import {
  declaredTopics,
  isUnfollowed,
  reportOf,
  StaleAnswerError,
  type QueriesOptions,
  type QueryReport,
  type UpdateAction,
} from "./queries-options.js";
import { Registry, type Entry } from "./registry.js";
import { isBefore, laterOf, type Revision } from "./revision.js";
import type { Step } from "./rule.js";
import { Pauses, Runs, type Run, type SeenRun } from "./runs.js";
import { guarded } from "./subscription.js";
import type { Untold } from "./topics.js";

export type { OptimisticWrite } from "./optimistic.js";
export { AlreadyBoundError } from "./defaults.js";
export { accountPersister, type AccountPersisterOptions, type AnyPersister } from "./persist.js";
export { StaleAnswerError } from "./queries-options.js";
export type { AnyQueryClient, QueriesOptions, QueryReport, Topics } from "./queries-options.js";

/**
 * Makes every query of a QueryClient live and correct: it is refetched when its
 * topics change, an answer that a notice overtook is never shown, and none is
 * replaced by an older one. Attach before the first query; `close` to detach.
 * Throws an AlreadyBoundError for a client that is bound.
 */
export function bindQueries(options: QueriesOptions): Queries {
  return new Queries(options);
}

export class Queries {
  readonly #options: QueriesOptions;
  readonly #queryClient: QueryClient;
  readonly #registry = new Registry<Query>((entry, step) => this.#act(entry, step));
  readonly #optimistic: OptimisticLayer;
  readonly #runs: Runs;
  readonly #pauses = new Pauses();
  readonly #listeners = new Set<() => void>();
  readonly #emptiedListeners = new Set<() => void>();
  readonly #stops: (() => void)[] = [];
  readonly #persister: Persister;
  #subscription: ReturnType<Freshet["subscribe"]> | undefined;
  readonly #mutations = new Set<Mutation>(); // under way
  readonly #results = new Set<MutationObserver>(); // those of mutations, on show
  readonly #foreign = new WeakSet<object>(); // mutations of another account
  readonly #untold = new Set<string>(); // procedures that were warned of
  #syncing = false;
  #showing: Query | undefined; // being patched by us
  #closed = false;
  #refetches = 0;

  constructor(options: QueriesOptions) {
    this.#options = options;
    this.#queryClient = options.queryClient as QueryClient;
    this.#persister = (queryFn, context, query) => this.#run(queryFn, context, query);
    const queryClient = this.#queryClient;
    const { freshet } = options;
    this.#stops.push(installDefault(queryClient, this.#persister));
    this.#runs = new Runs(options.flightTimeoutMs ?? 32_000, (query, run) => this.#late(query, run));
    this.#optimistic = new OptimisticLayer({
      find: (filters) => queryClient.getQueryCache().findAll(filters),
      show: (query, data) => this.#show(query, data),
      needs: (query, revision) => this.#registry.tellQuery(query, { type: "invalidate", revision }),
      reread: (query) => this.#registry.tellQuery(query, { type: "poll" }),
    });
    const cache = queryClient.getQueryCache();
    for (const query of cache.getAll()) this.#added(query);
    this.#stops.push(
      cache.subscribe((event) => this.#event(event)),
      queryClient.getMutationCache().subscribe((event) => this.#mutation(event)),
      freshet.onReset((revision) => this.#registry.reset(revision)),
      freshet.onAccountChange(() => this.#accountChanged()),
      freshet.onRenewed(() => this.#renewed()),
      freshet.onFrame((frame) => this.#frame(frame)),
      freshet.onStatus(() => this.#changed()),
    );
  }

  /** Where each query with topics stands. */
  report(): QueryReport[] {
    return [...this.#registry.entries].flatMap((entry) => reportOf(entry, this.#options.freshet) ?? []);
  }

  /** Of one query; undefined: there is none, or its topics aren't known. */
  reportOf(queryKey: QueryKey): QueryReport | undefined {
    const query = this.#queryClient.getQueryCache().find({ queryKey, exact: true });
    const entry = query && this.#registry.get(query);
    return entry && reportOf(entry, this.#options.freshet);
  }

  /** Calls back when a report would differ. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Another account is signed in, and nothing of the last one's is left in the QueryClient. */
  onEmptied(listener: () => void): () => void {
    this.#emptiedListeners.add(listener);
    return () => this.#emptiedListeners.delete(listener);
  }

  /** Refetches begun because something was owed; not those TanStack Query began. */
  get refetches(): number {
    return this.#refetches;
  }

  /**
   * Shows a write at once, and sends it. It stays on show until each query's own
   * data contains it, whatever else comes in between, and is taken back when
   * the write fails. Settles as the write does; at a change of account by an
   * AccountChangedError, at once.
   */
  optimistic<T>(write: OptimisticWrite<T>): Promise<T> {
    return this.#optimistic.write(write);
  }

  /** Leaves the queries alone from now on. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const stop of this.#stops) stop();
    this.#subscription?.close();
    this.#runs.clear();
    this.#pauses.clear();
  }

  // What comes from the stream.

  #frame(frame: Frame): void {
    const { state, revision } = this.#options.freshet.status;
    if (state !== "live" || !revision) return;
    const subscription = this.#subscription;
    this.#registry.heard(revision, frame.type === "frontier", (topic) => subscription?.caughtUp(topic) === true);
  }

  #told({ cause, topics, revision }: Invalidation): void {
    // A reset is told at random within a spread: another may have overtaken it.
    if (!this.#options.freshet.isCurrent(revision)) return;
    if (cause === "denied") forgetUnwatched(this.#queryClient, this.#registry.entries);
    if (cause === "denied" || cause === "poll") return this.#registry.poll(topics);
    this.#registry.tell(cause === "ready" ? "ready" : "invalidate", revision, topics);
  }

  /** Nothing that the last account has read, written or has under way is left to the next. */
  #accountChanged(): void {
    for (const entry of this.#registry.entries) this.#removed(entry);
    this.#registry.forget();
    for (const mutation of this.#mutations) {
      this.#foreign.add(mutation);
      disarm(mutation);
    }
    this.#optimistic.left();
    for (const observer of this.#results) observer.reset(); // which also keeps it from arming its mutation again
    empty(this.#queryClient, (query) => this.#added(query));
    for (const listener of this.#emptiedListeners) guarded(listener);
  }

  /** Whose claims another token has, only the server knows. */
  #renewed(): void {
    for (const entry of this.#registry.entries) {
      if (entry.claimed) this.#registry.on(entry, { type: "another" });
    }
  }

  // What comes from the cache.

  #event(event: QueryCacheNotifyEvent): void {
    const { query } = event;
    if (event.type === "added") return void this.#added(query);
    const entry = this.#registry.get(query);
    if (!entry) return;
    switch (event.type) {
      case "removed":
        this.#removed(entry);
        break;
      case "observerAdded":
      case "observerRemoved":
      case "observerOptionsUpdated":
        this.#resolve(entry);
        this.#watch(entry);
        break;
      case "updated":
        this.#updated(entry, event.action);
        entry.shown = query.state.data;
        break;
    }
  }

  /** Its end is told after its callbacks have run, which is where data is put back. */
  #mutation(event: MutationCacheNotifyEvent): void {
    const { mutation } = event;
    if (event.type === "observerAdded") this.#results.add(event.observer);
    if (event.type === "observerRemoved") this.#results.delete(event.observer as MutationObserver);
    if (!mutation) return;
    const { status, isPaused } = mutation.state;
    // What was removed goes on to its end, but for what waits to be resumed.
    const ends = !isPaused || this.#queryClient.getMutationCache().getAll().includes(mutation);
    if (status === "pending" && ends) this.#mutations.add(mutation);
    // Whoever awaits it sets something yet, too.
    else if (this.#foreign.has(mutation)) setTimeout(() => this.#mutations.delete(mutation));
    else if (this.#mutations.delete(mutation)) this.#registry.mutated(mutation);
  }

  #added(query: Query): Entry<Query> {
    const entry = this.#registry.add(query);
    const kept = this.#kept(query.state);
    if (query.state.data !== undefined) this.#written(entry, kept?.have);
    if (kept) entry.answered = new Set(kept.topics);
    entry.shown = query.state.data;
    this.#resolve(entry, kept?.topics);
    this.#watch(entry);
    return entry;
  }

  #written(entry: Entry<Query>, stamp: Revision | undefined, patch = false): void {
    this.#registry.written(entry, stamp, { patch, unfollowed: isUnfollowed(entry.query, this.#options.topicsOf) });
  }

  #kept(state: object): ReturnType<typeof keptOf> {
    return keptOf(state, (stamp) => this.#options.freshet.isCurrent(stamp));
  }

  #removed(entry: Entry<Query>): void {
    this.#pauses.end(entry.query);
    this.#runs.end(entry.query);
    this.#optimistic.forget(entry.query);
    this.#registry.remove(entry);
    this.#sync();
  }

  #watch(entry: Entry<Query>): void {
    const active = entry.query.isActive();
    if (active !== entry.rule.watched) this.#registry.on(entry, { type: active ? "watch" : "unwatch" });
  }

  #updated(entry: Entry<Query>, action: UpdateAction): void {
    const { query, rule } = entry;
    switch (action.type) {
      case "fetch":
        if (query.options.persister !== this.#persister) this.#runUnseen(entry);
        break;
      case "success":
        if (action.manual) {
          if (this.#showing === query) break;
          if ([...this.#mutations].some((mutation) => this.#foreign.has(mutation))) return this.#refuse(entry);
          // Patches over an answer leave its age as it is; a mutation's are no longer sure once it is over.
          entry.mutations = new Set(this.#mutations);
          this.#written(entry, undefined, true);
        } else this.#succeeded(entry);
        break;
      case "error":
        this.#failed(entry);
        break;
      case "setState":
        if (query.state.data === undefined && rule.held) {
          this.#removed(entry); // query.reset(): as if it were new
          this.#added(query);
        } else if (rule.phase === "flying" && query.state.fetchStatus === "idle") {
          this.#runs.end(query);
          this.#registry.on(entry, { type: "cancelled" });
        } else if (query.state.data !== undefined) {
          const kept = this.#kept(action.state ?? {});
          if (kept && rule.held && !rule.blind && isBefore(kept.have, rule.have)) {
            // Hydrated since it is younger by some clock: of a node that is behind.
            this.#show(query, entry.shown);
            keep(entry, this.#optimistic.has(query));
            break;
          }
          this.#written(entry, kept?.have);
          if (kept) entry.answered = new Set(kept.topics);
          this.#resolve(entry, kept?.topics);
        }
        break;
    }
  }

  #succeeded(entry: Entry<Query>): void {
    const { query } = entry;
    const run = this.#runs.end(query);
    if (!run) return this.#registry.written(entry, undefined);
    const { attempt, flight, outcome } = run;
    const wasDenied = entry.denied;
    entry.denied = false;
    if (outcome !== "dropped" && !flight.partial) entry.mutations = undefined;
    // Before the answer counts: what was told of its topics is part of what it needs.
    if (outcome !== "dropped" && run.answered) {
      entry.answered = flight.partial ? new Set([...entry.answered, ...run.answered]) : run.answered;
      this.#resolve(entry, run.learned);
    } else if (wasDenied) this.#resolve(entry, run.learned);
    if (!attempt) this.#show(query, this.#optimistic.admit(query, query.state.data, undefined, flight.partial));
    if (outcome === "dropped") this.#registry.on(entry, { type: "dropped" });
    else this.#registry.on(entry, { type: "answer", flight, stamp: outcome.stamp });
  }

  #failed(entry: Entry<Query>): void {
    const run = this.#runs.end(entry.query);
    const attempt = run?.attempt;
    // `not_found` is as good an answer as data, and as old as its stamp.
    if (run && attempt?.failure?.answers && attempt.stamp) {
      this.#registry.on(entry, { type: "answer", flight: run.flight, stamp: attempt.stamp });
    } else this.#registry.on(entry, { type: "failure", waitMs: attempt?.failure?.waitMs ?? 0, final: attempt?.failure?.final ?? false });
    if (!attempt?.failure?.denied) return;
    entry.denied = true;
    if (this.#registry.setTopics(entry, [])) this.#sync();
  }

  // Fetches.

  /**
   * Runs a query function: what every fetch of every query goes through, as the
   * default `persister`. Asks again, once, when a notice overtook the answer.
   */
  async #run(
    queryFn: (context: QueryFunctionContext) => unknown,
    context: QueryFunctionContext,
    query: Query,
  ): Promise<unknown> {
    const entry = this.#registry.get(query) ?? this.#added(query);
    const { rule } = entry;
    // Run twice, an infinite query's function would go on where it ended: its
    // requests are repeated one by one instead.
    const infinite = isInfinite(context);
    const partial = Boolean(query.state.fetchMeta?.fetchMore);
    for (let repeated = infinite; ; repeated = true) {
      const heard = this.#options.freshet.atLeast;
      const run = this.#runs.resume(query, context) ?? this.#begin(entry, { heard, partial, infinite });
      const { flight, attempt } = run;
      this.#changed();
      let data: unknown;
      try {
        data = await queryFn(watchSignal(context, attempt));
      } catch (error) {
        run.error = error;
        throw error;
      } finally {
        this.#runs.pause(run);
      }
      if (!this.#runs.is(query, run)) return data; // called off: nobody takes it
      await this.#optimistic.settled(query);
      if (!this.#runs.is(query, run)) return data;
      // A function that has no stamps at all is taken to read the primary: it
      // sees what had been told when it began.
      const stamp = attempt.requests > 0 ? attempt.stamp : run.heard;
      const verdict = rule.judge(flight, stamp, repeated);
      if (verdict === "again") continue;
      if (verdict === "keep") {
        run.outcome = { stamp };
        return this.#optimistic.admit(query, data, stamp, partial);
      }
      if (query.state.data !== undefined) return query.state.data;
      throw new StaleAnswerError("the answer is of a history that is over");
    }
  }

  #begin(entry: Entry<Query>, { heard, partial, infinite }: { heard?: Revision; partial: boolean; infinite: boolean }): SeenRun {
    const { query, rule } = entry;
    const flight = rule.begin({ heard, partial });
    const learned = new Set<string>();
    const answered = new Set<string>();
    const attempt = new Attempt(() => flight.atLeast && laterOf(rule.need, flight.atLeast), {
      topics: (topics, claimed) => {
        entry.claimed ||= claimed;
        for (const topic of topics) learned.add(topic);
        this.#resolve(entry, learned);
      },
      answered: (topics, untold) => {
        for (const topic of topics) answered.add(topic);
        if (untold) this.#warn(query, untold);
      },
      overtaken: (stamp, asked) => {
        const told = isBefore(asked ?? flight.owed, rule.need);
        return infinite && told && isBefore(stamp, rule.need) ? rule.need : undefined;
      },
      progress: () => this.#runs.progress(query, run),
      unknown: (atLeast) => this.#registry.on(entry, { type: "unknown", atLeast }),
    });
    const run: SeenRun = { flight, attempt, heard, learned, answered, outcome: "dropped" };
    this.#runs.begin(query, run);
    this.#resolve(entry);
    return run;
  }

  /** The answer is shown, and looks fresh for ever: said once for each method. */
  #warn(query: Query, { procedure, why }: Untold): void {
    if (this.#untold.has(procedure) || declaredTopics(query, this.#options.topicsOf)) return;
    this.#untold.add(procedure);
    this.#options.freshet.warn(
      `freshet: ${procedure}: ${why}. Nothing tells when this answer changes; if that is meant, give the query meta: {topics: []}.`,
      { procedure },
    );
  }

  /** A fetch has had no answer for too long; its end is a failure like others. */
  #late(query: Query, run: Run): void {
    if (!this.#registry.get(query)?.topics.length || !this.#runs.is(query, run)) return;
    if (run.attempt) run.attempt.failure = undefined;
    void query.cancel();
  }

  /** A fetch of a query with a persister of its own; only its ends are seen. */
  #runUnseen(entry: Entry<Query>): void {
    const { query, rule } = entry;
    const heard = this.#options.freshet.atLeast;
    const flight = rule.begin({ heard, partial: Boolean(query.state.fetchMeta?.fetchMore) });
    // A first fetch may be answered from its store, with data of any age.
    const stamp = query.state.data === undefined ? undefined : heard;
    this.#runs.begin(query, { flight, outcome: { stamp } });
    this.#resolve(entry);
  }

  /** Does what a query's rule answered. */
  #act(entry: Entry<Query>, step: Step): void {
    const { query, rule } = entry;
    if (rule.phase !== "pausing") this.#pauses.end(query);
    // So that whoever mounts it, or asks for it with a staleTime, fetches.
    if ((step.mark || step.pause) && rule.held) query.invalidate();
    if (step.pause) this.#pauses.begin(query, step.pause, () => this.#registry.on(entry, { type: "timer" }));
    // After TanStack Query has let go of the fetch whose end this is, and has
    // begun the one of a query that is being mounted.
    if (step.fetch) queueMicrotask(() => this.#fetch(entry));
    keep(entry, this.#optimistic.has(query));
    this.#optimistic.reached(query, rule.have);
    this.#changed();
  }

  /** Puts other data over the same answer. */
  #show(query: Query, data: unknown): void {
    if (data === query.state.data) return;
    const { isInvalidated, dataUpdatedAt } = query.state;
    this.#showing = query;
    query.setData(data, { manual: true, updatedAt: dataUpdatedAt });
    this.#showing = undefined;
    if (isInvalidated) query.invalidate();
  }

  /**
   * What was set by hand while a mutation of another account runs may be that one's:
   * it is undone before anybody renders.
   */
  #refuse(entry: Entry<Query>): void {
    const { query, rule, shown } = entry;
    if (shown === undefined) {
      this.#removed(entry);
      begin(this.#queryClient, query, () => this.#fetch(this.#added(query)));
    } else {
      this.#show(query, shown);
      if (!rule.fresh) query.invalidate(); // as it was
    }
  }

  #fetch({ query, rule }: Entry<Query>): void {
    if (this.#closed || rule.phase !== "resting") return;
    if (query.state.fetchStatus !== "idle" || !query.isActive()) return;
    this.#refetches++;
    query.fetch(undefined, { cancelRefetch: false }).catch(() => {}); // in the query's state
  }

  // Topics.

  #resolve(entry: Entry<Query>, learned?: Iterable<string>): void {
    const { query, rule } = entry;
    if (entry.denied) return;
    let topics = declaredTopics(query, this.#options.topicsOf) ?? learned;
    // A query that shows nothing and isn't asked for (`enabled: isUuid(input)`): its topics
    // may be such as have the stream of all others refused.
    if (!rule.held && rule.phase !== "flying" && !query.isActive()) topics = [];
    if (topics && this.#registry.setTopics(entry, [...topics, ...entry.answered])) this.#sync();
  }

  /** Brings the subscription in line with the topics, once for many queries. */
  #sync(): void {
    if (this.#syncing) return;
    this.#syncing = true;
    queueMicrotask(() => {
      this.#syncing = false;
      if (this.#closed) return;
      this.#registry.forget();
      const { topics } = this.#registry;
      if (this.#subscription) this.#subscription.setTopics(topics);
      else if (topics.size > 0) {
        this.#subscription = this.#options.freshet.subscribe({
          topics,
          since: (topic) => this.#registry.subscribe(topic),
          onInvalidate: (invalidation) => this.#told(invalidation),
        });
      }
    });
  }

  #changed(): void {
    for (const listener of this.#listeners) guarded(listener);
  }
}
