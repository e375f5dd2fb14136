/**
 * A point in the server's history, `<epoch>-<position>`: 8 hex digits, a dash,
 * 16 hex digits, in lower case. Opaque, and made so that plain string order is
 * the order of revisions: by epoch first, so positions of different epochs
 * never meet.
 */
export type Revision = string & { readonly __revision: unique symbol };

const form = /^[0-9a-f]{8}-[0-9a-f]{16}$/;

/**
 * Parses the wire form and nothing else: no upper case, no spaces, no lists.
 * A header that a proxy doubled ("a, a") is as unknown as a missing one: taken
 * for a number it once made a loop of refetches.
 */
export function parseRevision(text: unknown): Revision | undefined {
  if (typeof text !== "string" || !form.test(text) || text.startsWith("00000000")) {
    return undefined;
  }
  return text as Revision;
}

/** Whether `a` is older than `b`; no revision at all is older than any. */
export function isBefore(a: Revision | undefined, b: Revision | undefined): boolean {
  return b !== undefined && (a === undefined || a < b);
}

/** The later of the two. */
export function laterOf(a: Revision | undefined, b: Revision): Revision {
  return a !== undefined && a > b ? a : b;
}

/** The epoch, 8 hex digits: one uninterrupted run of one database. */
export function epochOf(revision: Revision): string {
  return revision.slice(0, 8);
}

/** Whether `a` belongs to an earlier history than `b`. */
export function isEarlierEpoch(a: Revision, b: Revision | undefined): boolean {
  return b !== undefined && epochOf(a) < epochOf(b);
}

/** The lowest revision of a revision's epoch: it says which history, and no more. */
export function floorOf(revision: Revision): Revision {
  return `${epochOf(revision)}-0000000000000000` as Revision;
}
