import type { StreamError, StreamRefusedError } from "./errors.js";
import type { Frame } from "./frame.js";
import type { Span } from "./history.js";
import type { Revision } from "./revision.js";

/** Topics, each with where its data stands; undefined: unknown, begin with `ready`. */
export type Wants = ReadonlyMap<string, Revision | undefined>;

export interface FeedState {
  readonly state: "idle" | "connecting" | "live" | "waiting" | "failed" | "unauthenticated";
  /** A stream is live, be it for some of the topics only. */
  readonly streaming: boolean;
  readonly lagMs: number;
  /** The longest time between two frames, once the server has told it. */
  readonly heartbeatMs?: number;
  readonly error?: StreamError;
  /** The server can't tell some of the topics (`refused.topics`): the stream is of the others. */
  readonly refused?: StreamRefusedError | undefined;
}

/** Until the server has told its own. */
export const defaultHeartbeatMs = 15_000;

/** Where notices come from: a stream of this tab's own, or the one all tabs share. */
export interface Feed {
  /** `wants` has changed. Changes in quick succession count as one. */
  changed(): void;
  /** Connect again now, also after a final refusal. */
  retry(): void;
  /** There is another credential: go on with a stream of that, from where this one is. */
  renew(): void;
  /** Back online, or visible again: timers may have slept. */
  wake(): void;
  close(): void;
}

/** What a feed asks of its user and tells it. */
export interface FeedEvents {
  wants(): Wants;
  /** A frame's notice. Throws StreamProtocolError if it can't be right. */
  apply(frame: Frame): void;
  /**
   * These topics are live, and all before `id` has been told of them, or is in
   * their spans. Told again whenever somebody may wait for it.
   */
  live(id: Revision, spans: ReadonlyMap<string, Span>): void;
  /** Every change of the live topics up to `id` has been told. */
  position(id: Revision): void;
  state(state: FeedState): void;
  /** A frame, after all that it means has been done. */
  seen(frame: Frame): void;
}
