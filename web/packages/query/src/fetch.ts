import { atLeastHeader, Attempt, attemptOf, parseTopics, revisionHeader, topicsHeader } from "./attempt.js";
import type { Freshet } from "./client.js";
import { failureOfResponse } from "./failure.js";
import { isEarlierEpoch, parseRevision } from "./revision.js";

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
    return { response, stamp, failure: response.ok ? undefined : await failureOfResponse(response) };
  };
  try {
    let { response, stamp, failure } = await look();
    const isOver = response.status === 400 && atLeast && stamp && isEarlierEpoch(atLeast, stamp);
    if (atLeast && (failure?.refused || isOver)) {
      if (failure?.refused === "AT_LEAST_UNKNOWN") attempt.hooks.unknown?.(atLeast);
      headers.delete(atLeastHeader);
      ({ response, failure } = await look());
    }
    if (failure) attempt.refuse(undefined, response.headers, failure);
    else attempt.note(response.headers);
    return response;
  } catch (error) {
    attempt.refuse(error); // the network's
    throw error;
  }
}
