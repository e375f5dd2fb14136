import type { DescMessage, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { topicsOfAnswer } from "./answer-topics.js";
import { atLeastHeader, Attempt, attemptOf, parseTopics, principalHeader, revisionHeader, topicsHeader } from "./attempt.js";
import type { Freshet } from "./client.js";
import { laterOf, parseRevision } from "./revision.js";
import { takesClaims, TopicError, topicsOf, untoldOf } from "./topics.js";
import { asCaller, failureOfError } from "./wire.js";

/**
 * Joins a Connect transport to the queries that `bindQueries` looks after: a
 * read asks at-least what its query needs, and its stamp goes back to it. It is
 * a wrapper and not an interceptor, because interceptors see a signal derived
 * from the query's, which nothing joins to it. Use one of the two, not both.
 *
 * A read that no query made asks at-least all that the stream has told; a
 * mutation's answer invalidates the topics that it names. All are sent with the
 * token of the `token` option; one that is refused is replaced, once.
 */
export function freshetTransport(
  freshet: Pick<Freshet, "atLeast" | "observe" | "wrote" | "caller">,
  inner: Transport,
): Transport {
  return {
    ...inner, // keeps what connect-query tells transports apart by
    stream(method, signal, timeoutMs, header, input, contextValues) {
      const send = (signed: Headers) => inner.stream(method, signal, timeoutMs, signed, input, contextValues);
      return asCaller(freshet, new Headers(header), false, send, () => false); // its input is read once
    },
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const attempt = attemptOf(signal);
      const headers = new Headers(header);
      const reads = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      const signedSend = (signed: Headers) => inner.unary(method, signal, timeoutMs, signed, input, contextValues);
      const send = () => asCaller(freshet, headers, reads, signedSend);
      if (reads) return read(freshet, method, input, headers, attempt ?? new Attempt(() => freshet.atLeast), send);
      const response = await send();
      const stamp = attempt ? attempt.note(response.header) : parseRevision(response.header.get(revisionHeader));
      if (stamp) freshet.wrote(stamp, parseTopics(response.header.get(topicsHeader)));
      return response;
    },
  };
}

async function read<I extends DescMessage, O extends DescMessage>(
  freshet: Pick<Freshet, "observe">,
  method: DescMethodUnary<I, O>,
  input: MessageInitShape<I>,
  headers: Headers,
  attempt: Attempt,
  send: () => Promise<UnaryResponse<I, O>>,
): Promise<UnaryResponse<I, O>> {
  attempt.requests++;
  const request = create(method.input, input);
  const asked = ifSpelled(() => topicsOf(method, request));
  attempt.hooks.topics?.(asked, takesClaims(method));
  const explicit = headers.has(atLeastHeader);
  let atLeast = attempt.atLeast();
  let strongly = false;
  // At most three requests: one that names a past epoch, and one that a notice
  // overtook, are each repeated once.
  for (let overtaken = false; ; ) {
    if (!explicit && atLeast) headers.set(atLeastHeader, atLeast);
    let response: UnaryResponse<I, O>;
    try {
      response = await send();
    } catch (error) {
      const failed = ConnectError.from(error);
      const current = parseRevision(failed.metadata.get(revisionHeader));
      if (current) freshet.observe(current);
      const failure = failureOfError(failed);
      if (failure.refused && !strongly) {
        if (failure.refused === "AT_LEAST_UNKNOWN" && atLeast) attempt.hooks.unknown?.(atLeast);
        strongly = true;
        atLeast = undefined;
        headers.delete(atLeastHeader); // positions of a history that is over, or of none
        continue;
      }
      attempt.refuse(error, failed.metadata, failure);
      throw error;
    }
    const stamp = parseRevision(response.header.get(revisionHeader));
    if (stamp) freshet.observe(stamp);
    const need = overtaken || explicit ? undefined : attempt.hooks.overtaken?.(stamp, atLeast);
    if (!need) {
      const principal = response.header.get(principalHeader);
      attempt.hooks.answered?.(
        ifSpelled(() => topicsOfAnswer(method, request, response.message, principal)),
        asked.length > 0 ? undefined : untoldOf(method, request, principal),
      );
      attempt.note(response.header);
      return response;
    }
    overtaken = true;
    atLeast = laterOf(atLeast, need);
  }
}

function ifSpelled(topics: () => string[]): string[] {
  try {
    return topics();
  } catch (error) {
    if (error instanceof TopicError) return []; // the server says what is wrong
    throw error;
  }
}
