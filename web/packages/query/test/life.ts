import { addStaticKeyToTransport, createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, hydrate, QueryClient, QueryObserver, type DehydratedState } from "@tanstack/react-query";
import { expect, vi } from "vitest";
import { Freshet } from "../src/client.js";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import type { Revision } from "../src/revision.js";
import { bindQueries, type Queries } from "../src/tanstack.js";
import { MessageService, type MessageApi } from "./message-api.js";
import { rev, type StreamServer } from "./server.js";

export const list = MessageService.method.listMessages;
export const parents = ["conversations/1", "conversations/2", "conversations/3"] as const;
export const topics = parents.map((parent) => `${parent}/messages`);

/** One life of the page, from load to unload. */
export class Life {
  readonly freshet: Freshet;
  readonly queryClient = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } });
  readonly queries: Queries;
  readonly observers: QueryObserver[] = [];

  constructor(
    url: string,
    readonly api: MessageApi,
    state?: DehydratedState,
  ) {
    this.freshet = new Freshet({ url, retryMs: 5, resetSpreadMs: 0 });
    const { freshet, queryClient } = this;
    this.queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
    if (state) hydrate(queryClient, state);
  }

  mount(parent: string, pageSize = 0): void {
    // On a real page a reload counts transports anew.
    const transport = addStaticKeyToTransport(freshetTransport(this.freshet, this.api.transport), "api");
    const observer = new QueryObserver(
      this.queryClient,
      createQueryOptions(list, { parent, pageSize }, { transport }) as never,
    );
    observer.subscribe(() => {});
    this.observers.push(observer);
  }

  /** Nothing is read beyond so many requests of all lives. */
  async idle(reads: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(this.api.reads.all).toHaveLength(reads);
  }

  have(): (Revision | undefined)[] {
    return this.queries.report().map(({ have }) => have);
  }

  /** Through JSON, as a store or a server's page would have it. */
  unload(): DehydratedState {
    const state = JSON.parse(JSON.stringify(dehydrate(this.queryClient))) as DehydratedState;
    for (const observer of this.observers) observer.destroy();
    this.queries.close();
    this.queryClient.clear();
    this.freshet.close();
    return state;
  }
}

/** A life with three queries, stamped 11, 12 and 13, and a stream that follows them. */
export async function stamped(server: StreamServer, api: MessageApi, epoch = 1): Promise<Life> {
  const life = new Life(server.url, api);
  for (const [n, parent] of parents.entries()) {
    life.mount(parent);
    (await api.reads.next()).answer(`${n}`, rev(11 + n, epoch));
  }
  await vi.waitFor(() => expect(life.have()).toEqual([rev(11, epoch), rev(12, epoch), rev(13, epoch)]));
  await server.requests.next();
  return life;
}
