import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Interceptor, type UnaryRequest } from "@connectrpc/connect";
import { atLeastHeader, parseTopics, revisionHeader, topicsHeader } from "./attempt.js";
import type { Freshet } from "./client.js";
import { isBefore, laterOf, parseRevision, type Revision } from "./revision.js";
import { TopicError, topicsOf } from "./topics.js";
import { asCaller, failureOfError } from "./wire.js";

export { topicsOfAnswer } from "./answer-topics.js";
export { messageCodec, type Codec } from "./codec.js";
export { topicsOfServices } from "./query-key.js";
export { freshetTransport } from "./transport.js";
export { CallerError, TemplateError, TopicError, topicsOf, topicsOfTemplate } from "./topics.js";

/**
 * Makes reads of a Connect transport follow the stream.
 *
 * - A read (`idempotency_level = NO_SIDE_EFFECTS`) asks at-least all that the
 *   stream has told; without a live stream it is strong. So a refetch after a
 *   notice contains the change on any node (G1), and after an own write that
 *   write (G5).
 * - An answer that a notice overtook is not let through: it is asked for again,
 *   once. This closes what `invalidateQueries` leaves open, since TanStack Query
 *   ignores an invalidation while a query's first fetch is on its way (issue
 *   8530). Should the second answer be overtaken too, it is let through, and
 *   `onInvalidate` is called again afterwards.
 * - A mutation's answer invalidates the topics that it names, without waiting
 *   for the stream. A later epoch in any answer resets.
 * - All are sent with the token of the `token` option; one that is refused is
 *   replaced, once.
 */
export function freshetInterceptor(freshet: Freshet): Interceptor {
  return (next) => async (request) => {
    const reads = request.method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
    if (request.stream) {
      const send = (header: Headers) => next({ ...request, header });
      return asCaller(freshet, request.header, false, send, () => false); // its input is read once
    }
    const send = () => asCaller(freshet, request.header, reads, (header) => next({ ...request, header }));
    if (reads) return read(freshet, request, send);
    const response = await withStamp(freshet, send);
    const stamp = stampOf(response.header);
    if (stamp) freshet.wrote(stamp, parseTopics(response.header.get(topicsHeader)));
    return response;
  };
}

async function read<R extends { header: Headers }>(
  freshet: Freshet,
  request: UnaryRequest,
  next: () => Promise<R>,
): Promise<R> {
  const topics = topicsOfRequest(request);
  const explicit = request.header.get(atLeastHeader);
  for (let retried = false; ; retried = true) {
    const told = freshet.needOf(topics);
    const atLeast = freshet.atLeast;
    if (explicit === null) setAtLeast(request.header, atLeast);
    let response: R;
    try {
      response = await withStamp(freshet, next);
    } catch (error) {
      if (retried || !(error instanceof ConnectError) || !failureOfError(error).refused) throw error;
      request.header.delete(atLeastHeader); // positions of a history that is over, or of none
      response = await withStamp(freshet, next);
    }
    const need = freshet.needOf(topics);
    const stamp = stampOf(response.header);
    // Only what was told while this attempt was on its way can have overtaken it.
    // An answer below what it was asked for is the server's fault, and asking
    // again, or telling again, would go on for ever.
    const asked = atLeast && told ? laterOf(atLeast, told) : (atLeast ?? told);
    if (!isBefore(asked, need) || !isBefore(stamp, need)) return response;
    if (retried) {
      // After the caller has stored the answer: a query that is on its first
      // fetch would not hear it.
      setTimeout(() => freshet.retell(topics));
      return response;
    }
  }
}

function setAtLeast(header: Headers, revision: Revision | undefined): void {
  if (revision) header.set(atLeastHeader, revision);
  else header.delete(atLeastHeader);
}

function topicsOfRequest(request: UnaryRequest): string[] {
  try {
    return topicsOf(request.method, request.message);
  } catch (error) {
    if (error instanceof TopicError) return []; // the server will say what is wrong
    throw error;
  }
}

/** Errors are stamped as well as answers. */
async function withStamp<R extends { header: Headers }>(
  freshet: Freshet,
  call: () => Promise<R>,
): Promise<R> {
  try {
    const response = await call();
    const stamp = stampOf(response.header);
    if (stamp) freshet.observe(stamp);
    return response;
  } catch (error) {
    const stamp = error instanceof ConnectError ? stampOf(error.metadata) : undefined;
    if (stamp) freshet.observe(stamp);
    throw error;
  }
}

function stampOf(header: Headers): Revision | undefined {
  return parseRevision(header.get(revisionHeader));
}
