import { getOption, hasOption, ScalarType, type DescField, type DescMessage, type DescMethod, type Message } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { reads, type Reads } from "./gen/freshet/v1/options_pb.js";

/** More could not be subscribed to on one stream either. */
export const maxTopics = 1000;
const maxTopicBytes = 512;

/** @internal */
export type Segment =
  | { readonly literal: string }
  /** `{principal.…}`: a claim of the caller, which the server tells with the answer. */
  | { readonly claim: string }
  /** `rest`: `{f=**}`, a resource path, escaped by segment. */
  | { readonly path: readonly DescField[]; readonly rest: boolean };

/** A request's topics can't be spelled; the server refuses such a request, too. */
export class TopicError extends Error {
  override readonly name = "TopicError";
}

/**
 * An answer to a read whose topics take claims of the caller doesn't say what they
 * are, so that it can't be followed: `Freshet-Principal` was lost on its way.
 */
export class CallerError extends Error {
  override readonly name = "CallerError";
}

/** A template that names what its request does not have: a mistake in the proto. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** What a method's `(freshet.v1.reads)` comes to. */
interface Compiled {
  readonly templates: readonly (readonly Segment[])[];
  /** It has other topics for another caller. */
  readonly claims: boolean;
  /** Topics of the request: there is room for the wildcards of what the answer adds. */
  readonly most: number;
}

const compiled = new WeakMap<DescMethod, Compiled>();
const encoder = new TextEncoder();
// eslint-disable-next-line no-control-regex -- they are what is looked for
const control = /[\u0000-\u001f\u007f-\u009f]/;

/**
 * The topics that a read depends on, from its method's `(freshet.v1.reads)`:
 * the same rules, and the same golden vectors, as the server's. Empty when the
 * method declares none, or when an unset field drops them all: then nothing is
 * known of what the answer depends on. Those that take claims of the caller are
 * left out; with an answer's `Freshet-Principal` they are there.
 */
export function topicsOf(method: DescMethod, request: Message, principal?: string | null): string[] {
  const { templates, claims, most } = readsOf(method);
  return expand(claims ? bind(templates, principal) : templates, method.input, request, most);
}

/** Whether a read has other topics for another caller. @internal */
export function takesClaims(method: DescMethod): boolean {
  return readsOf(method).claims;
}

/** A read that declares topics, by a request that has none. @internal */
export interface Untold {
  /** As in `/messages.v1.MessageService/ListMessages`. */
  readonly procedure: string;
  /** For the page's author. */
  readonly why: string;
}

/**
 * Says that nothing will tell when the answer to this request changes, in the words of
 * the Go client, which refuses to follow it; undefined: it has topics, or its method
 * declares none. `principal` is the answer's. @internal
 */
export function untoldOf(method: DescMethod, request: Message, principal: string | null): Untold | undefined {
  if (!hasOption(method, reads)) return undefined;
  const procedure = `/${method.parent.typeName}/${method.name}`;
  try {
    if (topicsOf(method, request, principal).length > 0) return undefined;
  } catch (error) {
    if (error instanceof TopicError) return { procedure, why: error.message };
    throw error;
  }
  const message = reflect(method.input, request);
  const segments = readsOf(method).templates.flat();
  const empty = segments.flatMap((s) => ("path" in s && valuesOf(s.path, message).length === 0 ? keyOf(s.path) : []));
  const texts = getOption(method, reads).topics.join(", ");
  const why = `an unset or empty field leaves the request without topics; set those of ${texts} (empty: ${[...new Set(empty)].join(", ")}), or declare a topic for all in its place, if empty means "all"`;
  return { procedure, why };
}

/** Once for each method: an option is decoded whenever it is asked for. */
function readsOf(method: DescMethod): Compiled {
  let known = compiled.get(method);
  if (!known) {
    const { topics, responseTopics }: Pick<Reads, "topics" | "responseTopics"> = hasOption(method, reads)
      ? getOption(method, reads)
      : { topics: [], responseTopics: [] };
    known = {
      templates: topics.map((text) => compileTemplate(text, method.input, true)),
      claims: [...topics, ...responseTopics].some((text) => text.includes("{principal.")),
      most: maxTopics - responseTopics.length,
    };
    compiled.set(method, known);
  }
  return known;
}

/**
 * Puts what the server says of its caller into templates. Undefined: nothing yet,
 * so templates that need it are left out. @internal
 */
export function bind(templates: readonly (readonly Segment[])[], principal: string | null | undefined): (readonly Segment[])[] {
  if (principal === undefined) return templates.filter((segments) => !segments.some((s) => "claim" in s));
  const claims = new Map(principal?.split(",").map((pair) => pair.split("=", 2) as [string, string | undefined]));
  return templates.map((segments) =>
    segments.map((segment) => {
      if (!("claim" in segment)) return segment;
      const literal = claims.get(segment.claim);
      if (!literal || !isEscaped(literal)) throw new CallerError(`the answer doesn't say the caller's ${segment.claim}: is Freshet-Principal exposed?`);
      return { literal };
    }),
  );
}

function isEscaped(literal: string): boolean {
  try {
    return escapeSegment(decodeURIComponent(literal)) === literal;
  } catch {
    return false;
  }
}

/** The topics of one template for a request. */
export function topicsOfTemplate(template: string, schema: DescMessage, request: Message): string[] {
  return expand([compileTemplate(template, schema)], schema, request);
}

/** @internal */
export function compileTemplate(text: string, schema: DescMessage, claims = false): readonly Segment[] {
  const segments = text.split("/").map((part): Segment => {
    const field = /^\{([A-Za-z_][\w.]*)(=\*\*)?\}$/.exec(part);
    if (claims && field?.[1]!.startsWith("principal.")) return { claim: field[1]!.slice("principal.".length) };
    if (field) return { path: resolve(text, schema, field[1]!), rest: field[2] !== undefined };
    if (part === "" || /[{}*]/.test(part) || control.test(part)) {
      throw new TemplateError(`template "${text}": "${part}" is no segment`);
    }
    return { literal: part };
  });
  // The shortest topic has a byte for a field and one for each slash.
  const lengths = segments.map((s) => ("literal" in s ? encoder.encode(s.literal).length : 1));
  const least = lengths.reduce((sum, length) => sum + length, segments.length - 1);
  if (least > maxTopicBytes) {
    throw new TemplateError(`template "${text}": every topic of it would be too long`);
  }
  return segments;
}

/** Looks a dotted path of proto names up, which are not the local names. */
function resolve(text: string, schema: DescMessage, path: string): DescField[] {
  const fail = (reason: string) => new TemplateError(`template "${text}": ${path}: ${reason}`);
  let message: DescMessage | undefined = schema;
  const fields = path.split(".").map((name) => {
    const field: DescField | undefined = message?.fields.find((f) => f.name === name);
    if (!field) throw fail(`no field "${name}" in ${message?.typeName ?? "a scalar"}`);
    if (field.fieldKind === "map") throw fail("a map has no order");
    message = field.message;
    return field;
  });
  const last = fields.at(-1)!;
  const scalar = last.fieldKind === "scalar" || last.fieldKind === "list" ? last.scalar : undefined;
  const none = [ScalarType.BYTES, ScalarType.FLOAT, ScalarType.DOUBLE];
  if (scalar === undefined || none.includes(scalar)) {
    throw fail("templates take string, bool and integers");
  }
  return fields;
}

function expand(
  templates: readonly (readonly Segment[])[],
  schema: DescMessage,
  request: Message,
  most = maxTopics,
): string[] {
  const message = reflect(schema, request);
  const topics = new Set<string>();
  for (const segments of templates) {
    for (const topic of combinations(segments, message)) {
      checkTopic(topic);
      topics.add(topic);
      if (topics.size > most) throw new TopicError(`more than ${most} topics`);
    }
  }
  return [...topics];
}

/** Every combination of values: one for each element of a repeated field. */
function combinations(segments: readonly Segment[], message: ReflectMessage): string[] {
  // A field that is used twice in a template has the same value in both places.
  const paths = new Map<string, string[]>();
  let count = 1;
  for (const segment of segments) {
    if (!("path" in segment)) continue;
    const key = keyOf(segment.path);
    if (paths.has(key)) continue;
    const values = valuesOf(segment.path, message);
    paths.set(key, values);
    count *= values.length;
    if (count > maxTopics) throw new TopicError(`more than ${maxTopics} topics`);
  }
  return Array.from({ length: count }, (_, index) => {
    const chosen = new Map<string, string>();
    // The index, written with a digit for each field, the last one moving fastest.
    let rest = index;
    for (const [key, values] of [...paths].reverse()) {
      chosen.set(key, values[rest % values.length]!);
      rest = Math.floor(rest / values.length);
    }
    return segments
      .map((segment) => {
        if (!("path" in segment)) return "literal" in segment && segment.literal;
        const value = chosen.get(keyOf(segment.path))!;
        return escapeInto(segment, value);
      })
      .join("/");
  });
}

/** @internal */
export function keyOf(path: readonly DescField[]): string {
  return path.map((field) => field.name).join(".");
}

/** The texts of a field: none when unset or empty, several when repeated. */
function valuesOf(path: readonly DescField[], message: ReflectMessage): string[] {
  const [field, ...rest] = path as [DescField, ...DescField[]];
  const take = (value: unknown): string[] => {
    if (rest.length > 0) return valuesOf(rest, value as ReflectMessage);
    const text = String(value);
    return text === "" ? [] : [text];
  };
  if (field.fieldKind === "list") return [...message.get(field)].flatMap(take);
  const explicit = field.presence !== FeatureSet_FieldPresence.IMPLICIT;
  if (explicit && !message.isSet(field)) return [];
  return take(message.get(field));
}

/**
 * Escapes every byte but RFC 3986's unreserved ones, so that a value fills
 * exactly one segment. It never yields "-", which stands for "all".
 */
function escapeSegment(value: string): string {
  if (value === "-") return "%2D";
  // encodeURIComponent leaves five characters more alone (RFC 3986, section 2.2).
  return encodeURIComponent(value).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/**
 * Escapes a resource path by segment, but for the wildcard of AIP-159. No row tells of
 * an empty segment, so that there is nothing to follow.
 */
function escapePath(value: string): string {
  const segments = value.split("/");
  if (segments.includes("")) throw new TopicError("a path has an empty segment");
  return segments.map((segment) => (segment === "-" ? segment : escapeSegment(segment))).join("/");
}

/**
 * Escapes what is inserted for `{field}`, or for `{field=**}`, which takes a path.
 * @internal
 */
export function escapeInto(segment: { readonly rest: boolean }, value: string): string {
  return segment.rest ? escapePath(value) : escapeSegment(value);
}

/** @internal */
export function checkTopic(topic: string): void {
  if (encoder.encode(topic).length > maxTopicBytes) {
    throw new TopicError(`a topic has more than ${maxTopicBytes} bytes`);
  }
}
