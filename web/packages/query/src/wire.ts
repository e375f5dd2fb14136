import { fromBinary } from "@bufbuild/protobuf";
import { durationMs, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Freshet } from "./client.js";
import { AccountChangedError, TokenSourceError } from "./errors.js";
import { retryAfter } from "./retry-after.js";

/** Why the server refused what a request asked for, if that is what it did. */
export function refusalOf(error: unknown): "EPOCH_CHANGED" | "AT_LEAST_UNKNOWN" | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const reason = reasonOf(error);
  if (error.code === Code.FailedPrecondition && reason === "EPOCH_CHANGED") return reason;
  if (error.code === Code.InvalidArgument && reason === "AT_LEAST_UNKNOWN") return reason;
  return undefined;
}

/**
 * The request says a value otherwise than the server's rows do: it will never be
 * answered, and its topics never be told.
 */
export function isMisspelled(error: ConnectError): boolean {
  return error.code === Code.InvalidArgument && reasonOf(error) === "TOPIC_SPELLING";
}

function reasonOf(error: ConnectError): string | undefined {
  const field = firstField(error, "google.rpc.ErrorInfo");
  return field && new TextDecoder().decode(field);
}

/** google.rpc.RetryInfo's delay in milliseconds, or that of Retry-After; 0: none. */
export function retryDelayOf(error: ConnectError): number {
  const delay = firstField(error, "google.rpc.RetryInfo");
  if (!delay) return retryAfter(error.metadata.get("retry-after")) ?? 0;
  try {
    return Math.max(0, durationMs(fromBinary(DurationSchema, delay)));
  } catch {
    return 0; // a hint, no more
  }
}

/** Field 1 of a detail, which comes first and is short: 0x0a, its length, its bytes. */
function firstField(error: ConnectError, type: string): Uint8Array | undefined {
  for (const detail of error.details) {
    if (!("type" in detail) || detail.type !== type) continue;
    const { value } = detail as { value: Uint8Array };
    if (value[0] === 0x0a) return value.subarray(2, 2 + (value[1] ?? 0));
  }
  return undefined;
}

/** Sends as whoever is signed in. An error of ours is told as Connect has them. */
export async function asCaller<R>(
  { caller }: Pick<Freshet, "caller">,
  headers: Headers,
  reads: boolean,
  send: (signed: Headers) => Promise<R>,
  refused = (outcome: unknown) => outcome instanceof ConnectError && outcome.code === Code.Unauthenticated,
): Promise<R> {
  try {
    return await caller.send(headers, reads, send, refused);
  } catch (error) {
    if (error instanceof TokenSourceError) throw new ConnectError(error.message, Code.Unavailable, undefined, undefined, error);
    if (error instanceof AccountChangedError) throw new ConnectError(error.message, Code.Canceled, undefined, undefined, error);
    throw error;
  }
}
