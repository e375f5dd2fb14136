import { retryAfter } from "./retry-after.js";

/** A detail of an error, as Connect has them: `value` is the protobuf message. */
export interface Detail {
  readonly type: string;
  readonly value: Uint8Array;
}

/** What an error of a read says of what was asked for. */
export interface Failure {
  /** It is an answer, as data is, if it is stamped: it says something about what is stored. */
  readonly answers: boolean;
  /** Nobody may follow the topics, or this caller may not: they would have the stream of all others refused. */
  readonly denied: boolean;
  /** The request itself is at fault: the same again will bring the same. */
  readonly final: boolean;
  /** The at-least is at fault: the request is to be sent again without. */
  readonly refused: "EPOCH_CHANGED" | "AT_LEAST_UNKNOWN" | undefined;
  /** How long the server asks to wait, by RetryInfo or else Retry-After, in milliseconds; 0: it doesn't say. */
  readonly waitMs: number;
}

/**
 * Codes of errors that say something about what is stored. All others are about the
 * request, the caller or the server: none of them is an answer, whatever stamp it
 * carries (F87).
 */
const answers = new Set([
  "not_found",
  "already_exists",
  "permission_denied",
  "failed_precondition",
  "aborted",
  "out_of_range",
]);

/** What the status means of a server that isn't Connect's, and stamps its answers. */
const codeOfStatus: Readonly<Record<number, string>> = {
  400: "failed_precondition",
  403: "permission_denied",
  404: "not_found",
  409: "aborted",
  410: "not_found",
  422: "failed_precondition",
};

/** `code`: its name on the wire. */
export function failureOf(code: string, details: readonly Detail[], headers: Headers): Failure {
  const reason = code === "invalid_argument" || code === "failed_precondition" ? reasonOf(details) : undefined;
  const misspelled = code === "invalid_argument" && reason === "TOPIC_SPELLING"; // nothing will ever be told of it
  let refused: Failure["refused"];
  if (code === "failed_precondition" && reason === "EPOCH_CHANGED") refused = reason;
  if (code === "invalid_argument" && reason === "AT_LEAST_UNKNOWN") refused = reason;
  const delay = firstField(details, "google.rpc.RetryInfo");
  return {
    answers: answers.has(code),
    denied: misspelled || code === "permission_denied",
    final: misspelled,
    refused,
    waitMs: delay ? durationMs(delay) : (retryAfter(headers.get("retry-after")) ?? 0),
  };
}

/** The same of a response of plain HTTP, which isn't ok. Its body is left to be read. */
export async function failureOfResponse(response: Response): Promise<Failure> {
  const { code, details } = await errorOf(response);
  const known = code === "invalid_argument" || answers.has(code);
  return failureOf(known ? code : (codeOfStatus[response.status] ?? ""), details, response.headers);
}

/** A JSON error of Connect, which has its details in base64. */
async function errorOf(response: Response): Promise<{ code: string; details: Detail[] }> {
  try {
    if (!response.headers.get("content-type")?.includes("json")) throw new TypeError("it isn't Connect's");
    const { code, details = [] } = (await response.clone().json()) as { code: string; details?: Record<keyof Detail, string>[] };
    return { code, details: details.map(({ type, value }) => ({ type, value: bytesOf(value) })) };
  } catch {
    return { code: "", details: [] };
  }
}

const bytesOf = (base64: string) =>
  Uint8Array.from(atob(base64.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));

/** The reason of the ErrorInfo. */
function reasonOf(details: readonly Detail[]): string | undefined {
  const field = firstField(details, "google.rpc.ErrorInfo");
  return field && new TextDecoder().decode(field);
}

/** Field 1 of a detail, which comes first and is short: 0x0a, its length, its bytes. */
function firstField(details: readonly Detail[], ofType: string): Uint8Array | undefined {
  const detail = details.find(({ type, value }) => type === ofType && value[0] === 0x0a);
  return detail?.value.subarray(2, 2 + (detail.value[1] ?? 0));
}

/** A google.protobuf.Duration of seconds (field 1) and nanoseconds (2); what is none, or negative, is 0. */
function durationMs(bytes: Uint8Array): number {
  let [ms, tag, value, scale] = [0, 0, 0, 1];
  for (const byte of bytes) {
    value += (byte & 0x7f) * scale;
    scale *= 0x80;
    if (byte >= 0x80) continue;
    if (tag === 0x08) ms += value * 1e3;
    if (tag === 0x10) ms += value / 1e6;
    [tag, value, scale] = [tag ? 0 : value, 0, 1];
  }
  return ms < 2 ** 53 ? ms : 0; // a negative number has its highest bits set
}
