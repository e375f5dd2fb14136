import { create, type DescMessage, type Registry } from "@bufbuild/protobuf";

/** What a persister of TanStack Query takes as `serialize` and `deserialize`. */
export interface Codec {
  serialize(value: unknown): string;
  // As JSON.parse: what it was is what it is.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  deserialize(text: string): any;
}

/** Marks what JSON has no form for. */
const tag = "$freshet";
type Tagged = { [tag]: string; value: unknown };

/**
 * JSON that also holds what protobuf messages have and JSON lacks: 64-bit
 * integers (also those in a Timestamp), bytes, NaN and the infinities. Plain
 * `JSON.stringify` throws at the first bigint, and a persister swallows that.
 *
 * A registry, `createRegistry(MessageService)` say, makes messages anew from
 * their descriptors. It is needed for those with explicit presence in proto2 or
 * editions, whose defaults are inherited; others are plain objects.
 */
export function messageCodec(registry?: Registry): Codec {
  return {
    serialize: (value) => JSON.stringify(pack(value)),
    deserialize: (text) => JSON.parse(text, (_key, part: unknown) => unpack(part, registry)) as unknown,
  };
}

/** The whole of a value as plain JSON; what isn't JSON is left to JSON.stringify. */
function pack(value: unknown): unknown {
  if (typeof value === "bigint") return mark("bigint", String(value));
  if (typeof value === "number" && !Number.isFinite(value)) return mark("number", String(value));
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) {
    return mark("bytes", btoa(Array.from(value, (byte) => String.fromCharCode(byte)).join("")));
  }
  if (Array.isArray(value)) return value.map(pack);
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") return pack((value as { toJSON(): unknown }).toJSON());
  const { $typeName } = value as { $typeName?: unknown }; // inherited, where a message has a prototype
  const fields = Object.entries(typeof $typeName === "string" ? { $typeName, ...value } : value).map(([key, part]) => [key, pack(part)] as const);
  // An object that has our mark among its own keys isn't taken for ours.
  return tag in value ? mark("object", fields) : Object.fromEntries(fields);
}

function mark(kind: string, value: unknown): Tagged {
  return { [tag]: kind, value };
}

function unpack(value: unknown, registry: Registry | undefined): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  if (tag in value) {
    const { [tag]: kind, value: inner } = value as Tagged;
    if (kind === "bigint") return BigInt(inner as string);
    if (kind === "number") return Number(inner);
    if (kind === "bytes") return Uint8Array.from(atob(inner as string), (c) => c.charCodeAt(0));
    return Object.fromEntries(inner as [string, unknown][]);
  }
  const { $typeName, ...fields } = value as { $typeName?: unknown };
  const schema: DescMessage | undefined = typeof $typeName === "string" ? registry?.getMessage($typeName) : undefined;
  return schema ? create(schema, fields) : value;
}
