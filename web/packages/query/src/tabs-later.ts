import type { Feed, FeedEvents } from "./feed.js";
import type { Stream, StreamOptions } from "./stream.js";
import type { OpenStream, Tabs } from "./tabs.js";
import type { TabsOptions } from "./tabs-options.js";

/** Loads what the tabs need to share a stream. A test lets it fail. */
export const loader = { load: () => import("./tabs.js") };

/**
 * The code for sharing is a chunk of its own, a third of the whole: a page that
 * can't share, or won't, doesn't carry it. Where it can't be had (a page of a
 * deploy that is gone), the tab has a stream of its own.
 */
export class LaterTabs implements Feed {
  #feed: Tabs | Stream | undefined;
  #closed = false;

  constructor(options: TabsOptions, stream: StreamOptions, events: FeedEvents, openStream: OpenStream) {
    const begin = (feed: Tabs | Stream) => {
      if (this.#closed) return feed.close();
      this.#feed = feed;
      feed.changed(); // what was wanted meanwhile
    };
    loader.load().then(
      ({ Tabs }) => begin(new Tabs(options, stream, events, openStream)),
      (error: unknown) => {
        stream.log("warn", "tabs: the code for sharing could not be loaded, this tab has a stream of its own", { error });
        begin(openStream(stream, events));
      },
    );
  }

  /** Whether this tab holds the stream. */
  get leads(): boolean {
    return !this.#closed && this.#feed !== undefined && (!("leads" in this.#feed) || this.#feed.leads);
  }

  changed(): void {
    this.#feed?.changed();
  }

  retry(): void {
    this.#feed?.retry();
  }

  renew(): void {
    this.#feed?.renew();
  }

  wake(): void {
    this.#feed?.wake();
  }

  close(): void {
    this.#closed = true;
    this.#feed?.close();
  }
}
