import { getOption, hasOption, type DescField, type DescMessage, type DescMethod, type Message } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { reads } from "./gen/freshet/v1/options_pb.js";
import { bind, checkTopic, compileTemplate, escapeInto, keyOf, maxTopics, TopicError, topicsOf, type Segment } from "./topics.js";

/** A step into a response. Fields below one repeated field are of the same element. */
interface Branch {
  readonly step: DescField;
  /** Of a leaf: whose value it is. */
  key?: string;
  readonly next: Branch[];
}

/** A template over responses. */
interface Derived {
  readonly segments: readonly Segment[];
  readonly roots: Branch[];
  /** With `-` for each repeated field; itself, if it has none. */
  readonly wildcard: Derived;
}

/** A value for each field, by its path. */
type Row = Readonly<Record<string, string>>;

const compiled = new WeakMap<DescMethod, readonly Derived[]>();

/**
 * All that an answer depends on: the topics of its request, and those that only the
 * answer names (`response_topics`), by the same rules and golden vectors as the
 * server's. At most 1,000: what is too many gives its wildcard, the last template
 * first. Throws a TopicError if not even a wildcard can be spelled. `principal` is the
 * answer's `Freshet-Principal`; a CallerError says that it lacks what templates take.
 */
export function topicsOfAnswer(method: DescMethod, request: Message, response: Message, principal?: string | null): string[] {
  const asked = topicsOf(method, request, principal ?? null);
  const all = derivedOf(method).map((derived) => boundOf(derived, principal ?? null));
  if (all.length === 0) return asked;
  const message = reflect(method.output, response);
  const wild = all.map(({ wildcard }) => expand(wildcard, message));
  const exact = all.map((derived, index) => {
    try {
      return expand(derived, message);
    } catch (error) {
      if (error instanceof TopicError) return wild[index]!;
      throw error;
    }
  });
  for (let n = all.length; ; n--) {
    const topics = new Set([asked, ...exact.slice(0, n), ...wild.slice(n)].flat());
    if (topics.size <= maxTopics) return [...topics];
    // It ends: the request has left room for all wildcards.
  }
}

function derivedOf(method: DescMethod): readonly Derived[] {
  let all = compiled.get(method);
  if (!all) {
    const texts = hasOption(method, reads) ? getOption(method, reads).responseTopics : [];
    all = texts.map((text) => derive(text, method.output));
    compiled.set(method, all);
  }
  return all;
}

function boundOf(derived: Derived, principal: string | null): Derived {
  if (!derived.segments.some((s) => "claim" in s)) return derived;
  const [segments] = bind([derived.segments], principal) as [readonly Segment[]];
  const bound = { segments, roots: derived.roots } as { segments: typeof segments; roots: Branch[]; wildcard: Derived };
  bound.wildcard = derived.wildcard === derived ? bound : boundOf(derived.wildcard, principal);
  return bound;
}

function derive(text: string, schema: DescMessage): Derived {
  const segments = compileTemplate(text, schema, true);
  const roots: Branch[] = [];
  for (const segment of segments) {
    if (!("path" in segment)) continue;
    let level = roots;
    segment.path.forEach((step, index) => {
      let branch = level.find((b) => b.step === step);
      if (!branch) level.push((branch = { step, next: [] }));
      if (index === segment.path.length - 1) branch.key = keyOf(segment.path);
      level = branch.next;
    });
  }
  const repeated = segments.map((s) => "path" in s && s.path.some(({ fieldKind }) => fieldKind === "list"));
  const parts = text.split("/").map((part, index) => (repeated[index] ? "-" : part));
  const derived = { segments, roots } as { segments: typeof segments; roots: Branch[]; wildcard: Derived };
  derived.wildcard = repeated.includes(true) ? derive(parts.join("/"), schema) : derived;
  return derived;
}

function expand({ segments, roots }: Derived, message: ReflectMessage): string[] {
  const topics = rowsOf(roots, message).map((row) => {
    const parts = segments.map((segment) => {
      if (!("path" in segment)) return "literal" in segment && segment.literal;
      const value = row[keyOf(segment.path)]!;
      return escapeInto(segment, value);
    });
    return parts.join("/");
  });
  topics.forEach(checkTopic);
  return [...new Set(topics)];
}

/**
 * The distinct rows below a message; several branches give every combination. Each is
 * looked at, so that what is too many doesn't depend on their order.
 */
function rowsOf(branches: readonly Branch[], message: ReflectMessage): Row[] {
  let rows: Row[] = [{}];
  for (const branch of branches) {
    const values = below(branch, message);
    if (rows.length * values.length > maxTopics) throw tooMany();
    rows = rows.flatMap((row) => values.map((value) => ({ ...row, ...value })));
  }
  return rows;
}

function below(branch: Branch, message: ReflectMessage): Row[] {
  const { step } = branch;
  if (step.fieldKind === "list") {
    const rows = new Map<string, Row>();
    for (const element of message.get(step)) {
      for (const row of valueOf(branch, element)) rows.set(JSON.stringify(Object.entries(row)), row);
      if (rows.size > maxTopics) throw tooMany();
    }
    return [...rows.values()];
  }
  const explicit = step.presence !== FeatureSet_FieldPresence.IMPLICIT;
  if (explicit && !message.isSet(step)) return [];
  return valueOf(branch, message.get(step));
}

function valueOf({ key, next }: Branch, value: unknown): Row[] {
  if (next.length > 0) return rowsOf(next, value as ReflectMessage);
  const text = String(value);
  return text === "" ? [] : [{ [key!]: text }];
}

function tooMany(): TopicError {
  return new TopicError(`more than ${maxTopics} topics`);
}
