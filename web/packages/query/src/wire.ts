import { fromBinary } from "@bufbuild/protobuf";
import { durationMs, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Freshet } from "./client.js";
import { AccountChangedError, TokenSourceError } from "./errors.js";
import { failureOf, firstField, type Detail, type Failure } from "./failure.js";
import { retryAfter } from "./retry-after.js";

/** What an error of Connect says of what was asked for. */
export function failureOfError(error: ConnectError): Failure {
  const code = Code[error.code].replace(/\B[A-Z]/g, "_$&").toLowerCase(); // NotFound: not_found
  return failureOf(code, detailsOf(error));
}

/** google.rpc.RetryInfo's delay in milliseconds, or that of Retry-After; 0: none. */
export function retryDelayOf(error: ConnectError): number {
  const delay = firstField(detailsOf(error), "google.rpc.RetryInfo");
  if (!delay) return retryAfter(error.metadata.get("retry-after")) ?? 0;
  try {
    return Math.max(0, durationMs(fromBinary(DurationSchema, delay)));
  } catch {
    return 0; // a hint, no more
  }
}

/** Those that came from a server. */
function detailsOf({ details }: ConnectError): Detail[] {
  return details.filter((detail): detail is Detail => "type" in detail && typeof detail.type === "string");
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
