import {
  StreamEndedError,
  StreamLostError,
  StreamProtocolError,
  StreamRefusedError,
  StreamSilentError,
  type StreamError,
} from "./errors.js";
import type { FeedState } from "./feed.js";
import type { Frame } from "./frame.js";
import type { Revision } from "./revision.js";

/** Errors lose their class and fields in a structured clone. */
export interface ErrorData {
  readonly name: string;
  readonly message: string;
  readonly status?: number;
  readonly code?: string;
  readonly retryAfterMs?: number;
  readonly topics?: readonly string[];
  readonly silentMs?: number;
  readonly reason?: string;
}

export interface StateData extends Omit<FeedState, "error" | "refused"> {
  readonly error?: ErrorData;
  readonly refused?: ErrorData;
}

/** What the leader's stream tells, in its order: the events of a feed. */
export type Told =
  | { readonly type: "apply"; readonly frame: Frame }
  | {
      readonly type: "live";
      readonly id: Revision;
      readonly spans: readonly (readonly [topic: string, from: Revision, latest?: Revision])[];
    }
  | { readonly type: "position"; readonly id: Revision }
  | { readonly type: "state"; readonly state: StateData }
  /** The frame that was applied last is done. */
  | { readonly type: "seen" };

/** From the leader to all. */
export interface LeaderMessage {
  readonly from: string;
  /** Names the leadership: the higher one is the later. */
  readonly term: number;
  /** Counts what was told; a beat and an exile repeat the last number. */
  readonly seq: number;
  readonly body: Told | { readonly type: "beat" } | { readonly type: "exile"; readonly tabs: readonly string[] };
}

/** From a tab to the leader. */
export interface TabMessage {
  readonly from: string;
  /** The leadership that this tab follows, if any. */
  readonly follows?: { readonly tab: string; readonly term: number };
  readonly body:
    | { readonly type: "want"; readonly topics: readonly (readonly [topic: string, since?: Revision])[] }
    | { readonly type: "ping" | "retry" | "wake" };
}

export type Message = LeaderMessage | TabMessage;

export function packState({ error, refused, ...state }: FeedState): StateData {
  return { ...state, error: error && packError(error), refused: refused && packError(refused) };
}

function packError(error: StreamError): ErrorData {
  return { ...fieldsOf(error), name: error.name, message: error.message };
}

function fieldsOf(error: StreamError): Partial<ErrorData> {
  if (error instanceof StreamRefusedError) {
    const { status, code, retryAfterMs, topics } = error;
    return { status, code, retryAfterMs, topics };
  }
  if (error instanceof StreamEndedError) return { reason: error.reason };
  return error instanceof StreamSilentError ? { silentMs: error.silentMs } : {};
}

export function unpackState({ error, refused, ...state }: StateData): FeedState {
  return { ...state, error: error && unpackError(error), refused: refused && unpackRefused(refused) };
}

function unpackRefused(data: ErrorData): StreamRefusedError {
  return new StreamRefusedError(data.status ?? 0, data.code ?? "", data.message, data.retryAfterMs, data.topics);
}

function unpackError(data: ErrorData): StreamError {
  switch (data.name) {
    case "StreamRefusedError":
      return unpackRefused(data);
    case "StreamEndedError":
      return new StreamEndedError(data.reason ?? "");
    case "StreamSilentError":
      return new StreamSilentError(data.silentMs ?? 0);
    case "StreamProtocolError":
      return new StreamProtocolError(data.message);
    default:
      return new StreamLostError(data.message);
  }
}
