import type { EventSourceMessage } from "eventsource-parser";
import { StreamEndedError, StreamProtocolError } from "./errors.js";
import { parseRevision, type Revision } from "./revision.js";

/**
 * One event of the stream, protocol version 1. `id` is what to resume from; of
 * a list that had to be split only the last part has one.
 */
export type Frame =
  | {
      readonly type: "invalidate";
      readonly id?: Revision;
      readonly revision: Revision;
      readonly topics: readonly string[];
      readonly spreadMs: number;
    }
  | {
      readonly type: "ready";
      readonly id?: Revision;
      readonly revision: Revision;
      readonly heartbeatMs: number;
      /** For so long the credential counts from now; 0: for ever, or not told. */
      readonly expiresMs: number;
    }
  | {
      readonly type: "reset";
      readonly id?: Revision;
      readonly revision: Revision;
      readonly reason: string;
    }
  | {
      readonly type: "frontier";
      readonly id?: Revision;
      readonly revision: Revision;
      readonly lagMs: number;
    };

/**
 * Decodes one event. An event of another name is undefined: later versions may
 * add some. A known one that can't be read is an error, and the stream is
 * reopened from the last id: skipping it could lose a notice. The last event of
 * a stream that ends for its caller is one, too: StreamEndedError.
 */
export function decodeFrame(message: EventSourceMessage): Frame | undefined {
  const type = message.event;
  if (type === "end") throw new StreamEndedError(String(parseObject(type, message.data)["reason"] ?? ""));
  if (type !== "invalidate" && type !== "ready" && type !== "reset" && type !== "frontier") {
    return undefined;
  }
  const id = message.id ? parseRevision(message.id) : undefined;
  if (message.id && !id) throw new StreamProtocolError(`${type}: the id is no revision`);
  const data = parseObject(type, message.data);
  const revision = parseRevision(data["revision"]);
  if (!revision) throw new StreamProtocolError(`${type}: no revision`);
  if (type === "invalidate") {
    const topics = data["topics"];
    if (!Array.isArray(topics) || !topics.every((t) => typeof t === "string")) {
      throw new StreamProtocolError("invalidate: topics is no list of strings");
    }
    return { type, id, revision, topics, spreadMs: count(data["spread_ms"]) };
  }
  switch (type) {
    case "ready":
      return { type, id, revision, heartbeatMs: count(data["heartbeat_ms"]), expiresMs: count(data["expires_ms"]) };
    case "reset":
      return { type, id, revision, reason: String(data["reason"] ?? "") };
    case "frontier":
      return { type, id, revision, lagMs: count(data["lag_ms"]) };
  }
}

function parseObject(type: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Falls through: the reason is the same.
  }
  throw new StreamProtocolError(`${type}: the data is no JSON object`);
}

/** A number of milliseconds; anything else counts as 0, "not told". */
function count(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}
