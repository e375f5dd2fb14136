import { atLeastHeader, Attempt, attemptOf, parseTopics, revisionHeader, topicsHeader } from "./attempt.js";
import type { Freshet } from "./client.js";
import { isEarlierEpoch, parseRevision } from "./revision.js";

/** As the codes in ./connect: answers, not failures. */
const answers = new Set([400, 403, 404, 409, 410, 422]);

/**
 * `fetch` for query functions that don't use Connect. Give it the query's
 * `signal`, in its second argument: that is what joins the request to the query.
 * Only for servers that stamp their answers, since it adds a header and takes
 * an answer without a stamp for one of unknown age.
 */
export function freshetFetch(
  freshet: Pick<Freshet, "atLeast" | "observe" | "wrote">,
  inner: typeof globalThis.fetch = (input, init) => globalThis.fetch(input, init),
): typeof globalThis.fetch {
  return async (input, init) => {
    const request = typeof input === "object" && "method" in input ? input : undefined;
    const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
    if (method !== "GET" && method !== "HEAD") {
      const response = await inner(input, init);
      const attempt = response.ok ? attemptOf(init?.signal) : undefined;
      const stamp = attempt ? attempt.note(response.headers) : parseRevision(response.headers.get(revisionHeader));
      if (stamp) freshet.wrote(stamp, parseTopics(response.headers.get(topicsHeader)));
      return response;
    }
    const attempt = attemptOf(init?.signal) ?? new Attempt(() => freshet.atLeast);
    attempt.requests++;
    const headers = new Headers(init?.headers ?? request?.headers);
    const atLeast = attempt.atLeast();
    const explicit = headers.has(atLeastHeader);
    if (!explicit && atLeast) headers.set(atLeastHeader, atLeast);
    let response = await inner(input, { ...init, headers });
    let stamp = parseRevision(response.headers.get(revisionHeader));
    if (stamp) freshet.observe(stamp);
    if (!response.ok && !explicit && atLeast && stamp && isEarlierEpoch(atLeast, stamp)) {
      headers.delete(atLeastHeader); // a position of a history that is over
      response = await inner(input, { ...init, headers });
      stamp = parseRevision(response.headers.get(revisionHeader));
      if (stamp) freshet.observe(stamp);
    }
    attempt.note(response.headers);
    attempt.answered = answers.has(response.status);
    return response;
  };
}
