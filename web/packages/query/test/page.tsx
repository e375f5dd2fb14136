import { TransportProvider } from "@connectrpc/connect-query";
import type { Transport } from "@connectrpc/connect";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render } from "@testing-library/react";
import type { ReactNode } from "react";
import { expect, vi } from "vitest";
import { freshetTransport, topicsOfServices } from "../src/connect.js";
import { bindQueries, type Queries, type QueryReport } from "../src/tanstack.js";
import { FakeSource } from "./fake-source.js";
import { MessageApi, MessageService, type Read } from "./message-api.js";
import { rev } from "./server.js";

export const list = MessageService.method.listMessages;

/** A page with queries, whose server and stream are the test's. */
export class Page {
  readonly source = new FakeSource();
  readonly api = new MessageApi();
  /** Nothing but Freshet makes a query fetch twice. */
  readonly queryClient = new QueryClient({
    defaultOptions: { queries: { retry: false, staleTime: Infinity } },
  });
  readonly queries: Queries;
  readonly transport: Transport;
  /** What was rendered, in order, without repetitions. */
  readonly rendered: string[] = [];

  constructor() {
    // What a notice does to the page is awaited by what is rendered.
    (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = false;
    this.source.ready(rev(10));
    const { source, queryClient } = this;
    this.queries = bindQueries({ freshet: source, queryClient, topicsOf: topicsOfServices(MessageService) });
    this.transport = freshetTransport(source, this.api.transport);
  }

  close(): void {
    cleanup();
    this.queries.close();
    this.queryClient.clear();
  }

  mount(node: ReactNode, transport = this.transport): ReturnType<typeof render> {
    return render(
      <TransportProvider transport={transport}>
        <QueryClientProvider client={this.queryClient}>{node}</QueryClientProvider>
      </TransportProvider>,
    );
  }

  /** Called by components in each render. */
  show(body: string | undefined): ReactNode {
    if (body !== undefined && this.rendered.at(-1) !== body) this.rendered.push(body);
    return body ?? "loading";
  }

  next(): Promise<Read> {
    return this.api.reads.next();
  }

  async shows(body: string): Promise<void> {
    await vi.waitFor(() => expect(this.rendered.at(-1)).toBe(body));
  }

  /** Long enough for a read to show that should not be sent. */
  async soon(): Promise<void> {
    await new Promise<void>((resolve) => setTimeout(resolve, 20));
  }

  get report(): QueryReport {
    return this.queries.report()[0]!;
  }
}
