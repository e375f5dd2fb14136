import { Code, ConnectError } from "@connectrpc/connect";
import type { Freshet } from "./client.js";
import { AccountChangedError, TokenSourceError } from "./errors.js";
import { failureOf, type Detail, type Failure } from "./failure.js";

/** What an error of Connect says of what was asked for. */
export function failureOfError(error: ConnectError): Failure {
  const code = Code[error.code].replace(/\B[A-Z]/g, "_$&").toLowerCase(); // NotFound: not_found
  return failureOf(code, detailsOf(error), error.metadata);
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
