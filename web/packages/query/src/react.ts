import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from "react";
import type { Freshet, Freshness, Status, SubscribeOptions } from "./client.js";
import type { Frame } from "./frame.js";
import type { Queries } from "./tanstack.js";

const FreshetContext = createContext<Freshet | undefined>(undefined);

/** Gives the hooks below it their stream. The caller closes the client. */
export function FreshetProvider(props: { client: Freshet; children?: ReactNode }): ReactNode {
  return createElement(FreshetContext.Provider, { value: props.client }, props.children);
}

export function useFreshet(): Freshet {
  const client = useContext(FreshetContext);
  if (!client) throw new Error("useFreshet: there is no <FreshetProvider> above this component");
  return client;
}

export interface UseInvalidationOptions extends Omit<SubscribeOptions, "topics"> {
  /** Compared by value: a new array with the same topics changes nothing. */
  readonly topics: readonly string[];
  /** False: not subscribed for now. Default true. */
  readonly enabled?: boolean | undefined;
}

/**
 * Calls `onInvalidate` whenever what was read under `topics` may be out of
 * date: on every change, once when the subscription has become live (what was
 * read before may lack a change), and after a reset. The latest callbacks are
 * called; they need no memo.
 */
export function useInvalidation(options: UseInvalidationOptions): void {
  const client = useFreshet();
  const { enabled = true } = options;
  const key = JSON.stringify([...new Set(options.topics)].sort());
  const topics = useMemo(() => JSON.parse(key) as string[], [key]);

  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });

  const subscription = useRef<ReturnType<Freshet["subscribe"]>>(undefined);
  useEffect(() => {
    // Another set of topics is given to the running subscription: closing and
    // opening one would forget what it was told.
    subscription.current?.setTopics(topics);
  }, [topics]);
  useEffect(() => {
    if (!enabled) return;
    const opened = client.subscribe({
      topics: latest.current.topics,
      onInvalidate: (invalidation) => latest.current.onInvalidate(invalidation),
      onReset: (invalidation) => latest.current.onReset?.(invalidation),
    });
    subscription.current = opened;
    return () => {
      subscription.current = undefined;
      opened.close();
    };
  }, [client, enabled]);
}

/** The stream's state, re-rendered when it changes. */
export function useFreshetStatus(): Status {
  const client = useFreshet();
  return useSyncExternalStore(
    (listener) => client.onStatus(listener),
    () => client.status,
    () => client.status,
  );
}

/**
 * How well these topics are followed, for a mark beside what is shown; without
 * topics, of the stream in all. It subscribes to nothing.
 */
export function useFreshness(topics?: readonly string[]): Freshness {
  const client = useFreshet();
  const look = () => (topics ? client.freshnessOf(topics) : client.status.freshness);
  return useSyncExternalStore((listener) => client.onStatus(listener), look, look);
}

/**
 * How well one query's data is kept fresh, for a mark beside it; undefined
 * while there is no such query, or nothing is known of what it depends on.
 */
export function useQueryFreshness(
  queries: Pick<Queries, "reportOf" | "onChange">,
  queryKey: readonly unknown[],
): Freshness | undefined {
  const look = () => queries.reportOf(queryKey)?.freshness;
  return useSyncExternalStore((listener) => queries.onChange(listener), look, look);
}

export interface SeenFrame {
  /** Counts from 1, as a key. */
  readonly number: number;
  /** `Date.now()` when it came. */
  readonly at: number;
  readonly frame: Frame;
}

/** The last frames, the newest first: for devtools, since each one renders. */
export function useFreshetFrames(limit = 50): readonly SeenFrame[] {
  const client = useFreshet();
  const [frames, setFrames] = useState<readonly SeenFrame[]>([]);
  useEffect(() => {
    let number = 0;
    setFrames([]); // another client's are not this one's
    return client.onFrame((frame) => {
      const seen = { number: ++number, at: Date.now(), frame };
      setFrames((list) => [seen, ...list].slice(0, limit));
    });
  }, [client, limit]);
  return frames;
}
