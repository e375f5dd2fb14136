import { atLeastHeader, Attempt, attemptOf, parseTopics, revisionHeader, topicsHeader } from "./attempt.js";
import type { Freshet } from "./client.js";
import { retryAfter } from "./retry-after.js";
import { isEarlierEpoch, parseRevision, type Revision } from "./revision.js";

/** As the codes in ./connect: answers, not failures, if they are stamped. */
const answers = new Set([400, 403, 404, 409, 410, 422]);

/**
 * `fetch` for query functions that don't use Connect. Give it the query's
 * `signal`, in its second argument: that is what joins the request to the query.
 * Only for servers that stamp their answers, since it adds a header and takes
 * an answer without a stamp for one of unknown age.
 *
 * What a query function sends with its signal is a read, whatever its method;
 * else GET and HEAD are, and all others are writes. What goes to the stream's
 * origin has the token of the `token` option, and nothing else has.
 */
export function freshetFetch(
  freshet: Pick<Freshet, "atLeast" | "observe" | "wrote" | "caller">,
  inner: typeof globalThis.fetch = (input, init) => globalThis.fetch(input, init),
): typeof globalThis.fetch {
  return (input, init) => {
    const request = typeof input === "object" && "method" in input ? input : undefined;
    const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
    const attempt = attemptOf(init?.signal ?? request?.signal);
    const reads = attempt ? !attempt.writes : method === "GET" || method === "HEAD";
    const headers = new Headers(init?.headers ?? request?.headers);
    // A Request's body can be read once, and this may be sent twice.
    const again = request && !init?.body ? () => request.clone() : () => input;
    const isTold = freshet.caller.knows(request?.url ?? String(input));
    const once = (init?.body ?? undefined) instanceof ReadableStream;
    const refused = (outcome: unknown) => !once && (outcome as Partial<Response> | undefined)?.status === 401;
    const send = (signed: Headers) => inner(again(), { ...init, headers: signed });
    const asCaller = () => (isTold ? freshet.caller.send(headers, reads, send, refused) : send(headers));
    if (!reads) return write(freshet, attempt, asCaller);
    return read(freshet, attempt ?? new Attempt(() => freshet.atLeast), headers, asCaller);
  };
}

async function write(
  freshet: Pick<Freshet, "wrote">,
  attempt: Attempt | undefined,
  send: () => Promise<Response>,
): Promise<Response> {
  const response = await send();
  const stamp = parseRevision(response.headers.get(revisionHeader));
  if (response.ok) attempt?.note(response.headers);
  if (stamp) freshet.wrote(stamp, parseTopics(response.headers.get(topicsHeader)));
  return response;
}

async function read(
  freshet: Pick<Freshet, "observe">,
  attempt: Attempt,
  headers: Headers,
  send: () => Promise<Response>,
): Promise<Response> {
  attempt.requests++;
  const atLeast = headers.has(atLeastHeader) ? undefined : attempt.atLeast();
  if (atLeast) headers.set(atLeastHeader, atLeast);
  const look = async () => {
    const response = await send();
    const stamp = parseRevision(response.headers.get(revisionHeader));
    if (stamp) freshet.observe(stamp);
    return { response, stamp };
  };
  try {
    let { response, stamp } = await look();
    if (atLeast && (await isRefused(response, stamp, atLeast, attempt))) {
      headers.delete(atLeastHeader);
      ({ response, stamp } = await look());
    }
    if (response.ok) attempt.note(response.headers);
    else {
      const waitMs = retryAfter(response.headers.get("retry-after")) ?? 0;
      attempt.refuse(undefined, response.headers, answers.has(response.status), waitMs);
    }
    return response;
  } catch (error) {
    attempt.refuse(error, new Headers(), false); // the network's
    throw error;
  }
}

/** Whether what was asked for is of a history that is over, or not known to the server. */
async function isRefused(
  response: Response,
  stamp: Revision | undefined,
  atLeast: Revision,
  attempt: Attempt,
): Promise<boolean> {
  if (response.status !== 400) return false;
  if (stamp && isEarlierEpoch(atLeast, stamp)) return true;
  const reason = await reasonOf(response.clone());
  if (reason === "AT_LEAST_UNKNOWN") attempt.hooks.unknown?.(atLeast);
  return reason !== undefined;
}

/** The ErrorInfo of a JSON error of Connect, which has its details in base64. */
async function reasonOf(response: Response): Promise<string | undefined> {
  try {
    const { details } = (await response.json()) as { details?: { type?: unknown; value?: unknown }[] };
    const info = details?.find(({ type }) => type === "google.rpc.ErrorInfo");
    const text = atob(String(info?.value).replaceAll("-", "+").replaceAll("_", "/"));
    return ["EPOCH_CHANGED", "AT_LEAST_UNKNOWN"].find((reason) => text.includes(reason));
  } catch {
    return undefined; // not Connect's
  }
}
