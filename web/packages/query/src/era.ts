import { epochOf, isEarlierEpoch, laterOf, type Revision } from "./revision.js";

/**
 * Which history of the database is the current one. The stream says; an answer
 * of a later one does too, unless a reset went back from that (F77): then a node
 * that doesn't know yet gave it.
 */
export class Era {
  #at: Revision | undefined;
  #left: Revision | undefined;

  /** The highest revision heard of, in this history. */
  get at(): Revision | undefined {
    return this.#at;
  }

  advance(revision: Revision): void {
    this.#at = laterOf(this.#at, revision);
  }

  /** Another history begins, be it an earlier one. */
  begin(revision: Revision): void {
    if (this.#at && isEarlierEpoch(revision, this.#at)) this.#left = laterOf(this.#left, this.#at);
    this.#at = revision;
  }

  isLater(revision: Revision): boolean {
    return this.#at !== undefined && isEarlierEpoch(this.#at, revision);
  }

  isEarlier(revision: Revision): boolean {
    return isEarlierEpoch(revision, this.#at);
  }

  /** Whether an answer with this stamp says that another history has begun. */
  leads(stamp: Revision): boolean {
    return this.isLater(stamp) && (this.#left === undefined || isEarlierEpoch(this.#left, stamp));
  }

  /** Whether it is of the current one, as far as is known. */
  holds(stamp: Revision): boolean {
    return this.#at === undefined || epochOf(stamp) === epochOf(this.#at);
  }
}
