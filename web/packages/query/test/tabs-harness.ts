import { expect, vi } from "vitest";
import { Freshet, type FreshetOptions } from "../src/client.js";
import type { Invalidation } from "../src/ledger.js";
import { laterOf, type Revision } from "../src/revision.js";
import { FakeBrowser, type FakeTab } from "./fake-browser.js";
import type { ModelServer } from "./model-server.js";

export const patience = { timeout: 5000, interval: 5 };

/** A page of an app: what it was told, as a query layer would keep it. */
export class Page {
  readonly tab: FakeTab;
  readonly lifecycle = new EventTarget();
  readonly client: Freshet;
  readonly told: Invalidation[] = [];
  /** The highest revision told of a topic: what is read then contains it. */
  readonly need = new Map<string, Revision>();

  constructor(browser: FakeBrowser, server: ModelServer, options: FreshetOptions = {}, said?: (message: unknown) => void) {
    this.tab = browser.open();
    const { locks } = this.tab;
    const openChannel = (name: string) => {
      said?.(name);
      const channel = this.tab.openChannel(name);
      const post = channel.postMessage.bind(channel);
      channel.postMessage = (message) => {
        said?.(message);
        post(message);
      };
      return channel;
    };
    this.client = new Freshet({
      fetch: this.#fetch(server),
      retryMs: 5,
      maxRetryMs: 20,
      resetSpreadMs: 0,
      ...options,
      tabs: { beatMs: 40, locks, openChannel, lifecycle: this.lifecycle, ...(options.tabs as object) },
    });
  }

  /**
   * A frozen tab: its stream is not read. Messages, locks and, beyond what a
   * browser does, its timers go on.
   */
  freeze(): void {
    this.#thawed = new Promise((resolve) => (this.#thaw = resolve));
  }

  thaw(): void {
    this.#thaw();
  }

  #thawed: Promise<void> = Promise.resolve();
  #thaw: () => void = () => {};

  #fetch(server: ModelServer): typeof globalThis.fetch {
    return async (input, init) => {
      const response = await server.fetch(input, init);
      const frozen = new TransformStream<Uint8Array, Uint8Array>({
        transform: async (chunk, controller) => {
          await this.#thawed;
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body?.pipeThrough(frozen), response);
    };
  }

  follow(topics: string[], since?: (topic: string) => Revision | undefined) {
    return this.client.subscribe({
      topics,
      since,
      onInvalidate: (invalidation) => {
        this.told.push(invalidation);
        for (const topic of invalidation.topics) {
          this.need.set(topic, laterOf(this.need.get(topic), invalidation.revision));
        }
      },
    });
  }

  live(): Promise<void> {
    return vi.waitFor(() => {
      if (this.client.status.state !== "live") throw new Error(this.client.status.state);
    }, patience);
  }

  /** Once it was told of this much of the topic. */
  knows(topic: string, revision: Revision): Promise<void> {
    return vi.waitFor(() => {
      const need = this.need.get(topic);
      if (need === undefined || need < revision) throw new Error(`${topic}: told ${need}, written ${revision}`);
    }, patience);
  }

  close(): void {
    this.client.close();
  }

  crash(): void {
    this.tab.crash();
    this.client.close(); // what it leaves to the browser and to the network
  }
}

/** Pages of one browser, and who leads them. */
export class Pages {
  readonly browser = new FakeBrowser();
  readonly all: Page[] = [];
  readonly #server: ModelServer;

  constructor(server: ModelServer) {
    this.#server = server;
  }

  open(options: FreshetOptions = {}, said?: (message: unknown) => void): Page {
    const page = new Page(this.browser, this.#server, options, said);
    this.all.push(page);
    return page;
  }

  leader(): Promise<Page> {
    return vi.waitFor(() => {
      const leaders = this.all.filter((page) => page.client.leads);
      if (leaders.length !== 1) throw new Error(`${leaders.length} leaders`);
      return leaders[0]!;
    }, patience);
  }

  drop(page: Page): void {
    this.all.splice(this.all.indexOf(page), 1);
  }

  close(): void {
    for (const page of this.all) page.close();
  }
}

export async function openAll(pages: Pages, n: number, topics: (i: number) => string[]): Promise<Page[]> {
  const opened = Array.from({ length: n }, (_, i) => {
    const page = pages.open();
    page.follow(topics(i));
    return page;
  });
  await Promise.all(opened.map((page) => page.live()));
  return opened;
}

/** Until one stream is left that follows what everyone wants. */
export function oneStream(server: ModelServer, topics: string[]): Promise<void> {
  return vi.waitFor(() => {
    expect([...server.streams].map((stream) => [...stream.topics].sort())).toEqual([topics]);
  }, patience);
}
