import { fromBinary } from "@bufbuild/protobuf";
import { durationMs, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

/** FAILED_PRECONDITION with google.rpc.ErrorInfo{reason: "EPOCH_CHANGED"}. */
export function isEpochChanged(error: unknown): boolean {
  if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) return false;
  const reason = firstField(error, "google.rpc.ErrorInfo");
  return reason !== undefined && new TextDecoder().decode(reason) === "EPOCH_CHANGED";
}

/** google.rpc.RetryInfo's delay in milliseconds; 0: none. */
export function retryDelayOf(error: ConnectError): number {
  const delay = firstField(error, "google.rpc.RetryInfo");
  if (!delay) return 0;
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
