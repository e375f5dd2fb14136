import { epochOf, laterOf, type Revision } from "./revision.js";

/** What a live stream has said of one topic. */
export interface Span {
  /** Every change after this has been told … */
  readonly from: Revision;
  /** … the last of them at this revision. Undefined: there was none. */
  readonly latest?: Revision;
}

/**
 * What the stream of this tab has told since when, per topic. It answers one
 * that comes later with data of its own age, in this tab or another, without
 * asking the server again.
 */
export class History {
  #spans = new Map<string, { from: Revision; latest?: Revision }>();

  /**
   * A stream of these topics is ready at `revision`. Of those in `since` it has
   * told everything after that; `since` is never above where the last one ended.
   */
  begin(topics: ReadonlySet<string>, since: ReadonlyMap<string, Revision>, revision: Revision): void {
    const spans = new Map<string, { from: Revision; latest?: Revision }>();
    for (const topic of topics) {
      const from = since.get(topic) ?? revision;
      const known = this.#spans.get(topic);
      const continued = since.has(topic) && known && known.from < from;
      spans.set(topic, { from: continued ? known.from : from, latest: known?.latest });
    }
    this.#spans = spans;
  }

  /** Told, maybe on a stream that isn't ready yet. */
  changed(topics: Iterable<string>, revision: Revision): void {
    for (const topic of topics) {
      const span = this.#spans.get(topic);
      // Not followed so far: all of it counts as from here, until `begin` knows better.
      if (!span) this.#spans.set(topic, { from: revision, latest: revision });
      else span.latest = laterOf(span.latest, revision);
    }
  }

  /** Another history: what was known of the old one says nothing. */
  reset(revision: Revision): void {
    for (const topic of this.#spans.keys()) this.#spans.set(topic, { from: revision });
  }

  clear(): void {
    this.#spans.clear();
  }

  /** Whether all changes of the topic after `since` are known. Undefined: none is asked for. */
  covers(topic: string, since: Revision | undefined): boolean {
    const span = this.#spans.get(topic);
    if (span === undefined || since === undefined) return span !== undefined;
    return epochOf(since) === epochOf(span.from) && since >= span.from;
  }

  spans(topics: Iterable<string>): Map<string, Span> {
    const view = new Map<string, Span>();
    for (const topic of topics) {
      const span = this.#spans.get(topic);
      if (span) view.set(topic, { ...span });
    }
    return view;
  }
}
