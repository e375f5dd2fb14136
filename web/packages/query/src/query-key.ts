import { create, type DescMessage, type DescMethod, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { takesClaims, TopicError, topicsOf } from "./topics.js";

/**
 * Reads the topics of a query off its key, where the key is one of
 * connect-query's: so that a query is followed which has not been fetched on
 * this page, but came with the server's rendering or out of a cache. Undefined:
 * they take claims of the caller, which only an answer says.
 */
export function topicsOfServices(
  ...services: readonly DescService[]
): (queryKey: readonly unknown[]) => readonly string[] | undefined {
  const methods = new Map<string, DescMethod>();
  for (const service of services) {
    for (const method of service.methods) methods.set(`${service.typeName}/${method.name}`, method);
  }
  return ([kind, key]) => {
    if (kind !== "connect-query" || typeof key !== "object" || key === null) return [];
    const { serviceName, methodName, input } = key as Record<string, unknown>;
    const method = methods.get(`${String(serviceName)}/${String(methodName)}`);
    if (!method || input === "skipped") return [];
    try {
      // The key has the fields' local names. Its 64-bit integers are texts, and
      // as texts they go into topics.
      const init = (input ?? {}) as MessageInitShape<DescMessage>;
      const topics = topicsOf(method, create(method.input, init));
      return topics.length === 0 && takesClaims(method) ? undefined : topics;
    } catch (error) {
      if (error instanceof TopicError) return []; // the server will say what is wrong
      throw error;
    }
  };
}
