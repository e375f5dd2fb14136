/** What made a client read again, as far as the answer's `Freshet-Cause` says it. */
export interface Cause {
  /** In words: `update of messages`. */
  readonly text: string;
  /** One of the answer's topics that changed, or a pattern that matches one. */
  readonly topic?: string | undefined;
  readonly pattern?: string | undefined;
  /** The commit's revision. */
  readonly revision?: string | undefined;
  /** When it was committed, by the database's clock, in milliseconds of the epoch. */
  readonly at?: number | undefined;
}

/** One member of a dictionary of structured fields (RFC 9651): a token, a number or a string. */
const member = /(?:^|,)\s*([a-z][a-z0-9_-]*)=(?:"((?:[^"\\]|\\.)*)"|([^,;\s"]+))/g;

/** Parses the header. Undefined: there is none, or nothing in it is known. */
export function parseCause(header: string | null): Cause | undefined {
  const members = new Map<string, string>();
  for (const [, name, text, token] of (header ?? "").matchAll(member)) {
    members.set(name!, text?.replace(/\\(.)/g, "$1") ?? token!);
  }
  const change = members.get("change");
  if (change === undefined) return undefined;
  const table = decode(members.get("table"));
  const rows = Number(members.get("rows"));
  const text = [change.replaceAll("_", " "), rows > 1 && `of ${rows} rows`, table && `of ${table}`].filter(Boolean).join(" ");
  const at = Date.parse(members.get("time") ?? "");
  const topic = decode(members.get("topic"));
  const pattern = decode(members.get("pattern"));
  return { text, topic, pattern, revision: members.get("revision"), at: Number.isNaN(at) ? undefined : at };
}

/** What it says concerns a query with these topics. */
export function concerns({ topic, pattern }: Cause, topics: readonly string[]): boolean {
  if (topic !== undefined) return topics.includes(topic);
  if (pattern === undefined) return false;
  const source = pattern.replace(/\*\*|[*.+?^${}()|[\]\\]/g, (part) => (part === "**" ? ".*" : part === "*" ? "[^/]*" : `\\${part}`));
  const matching = new RegExp(`^${source}$`);
  return topics.some((each) => matching.test(each));
}

function decode(text: string | undefined): string | undefined {
  try {
    return text && decodeURIComponent(text);
  } catch {
    return text;
  }
}
