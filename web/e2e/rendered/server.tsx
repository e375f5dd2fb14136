import { createServer, request as ask, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, type DehydratedState } from "@tanstack/react-query";
import { renderToPipeableStream } from "react-dom/server";
import { rolldown } from "rolldown";
import { codec, input, list, live, Page } from "./app.js";

/**
 * Renders the page on each request for "/", from what an API answers at that moment,
 * and passes all else on to the API.
 */
export class Renderer {
  /** Reads that the browser has sent since the last page was rendered. */
  reads = 0;
  /** What is done to the state before it is written into the page. */
  change: (state: DehydratedState) => void = () => {};
  readonly #api: string;
  readonly #script: string;
  readonly #server: Server;

  private constructor(api: string, script: string) {
    this.#api = api;
    this.#script = script;
    this.#server = createServer((request, response) => {
      if (request.url === "/") {
        this.#render(response).catch((error: unknown) => response.destroy(error as Error));
      } else if (request.url === "/client.js") {
        response.writeHead(200, { "content-type": "text/javascript" }).end(this.#script);
      } else this.#pass(request, response);
    });
  }

  static async start(api: string): Promise<Renderer> {
    const bundle = await rolldown({
      input: join(import.meta.dirname, "client.tsx"),
      onLog: (level, log) => {
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") console.warn(level, log.message); // "use client": all of it is
      },
      transform: { define: { "process.env.NODE_ENV": '"production"' }, jsx: "react-jsx" },
    });
    const { output } = await bundle.generate({ format: "es", codeSplitting: false });
    const renderer = new Renderer(api, output[0].code);
    await new Promise<void>((done) => renderer.#server.listen(0, "127.0.0.1", done));
    return renderer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #render(response: ServerResponse): Promise<void> {
    const { freshet, queryClient, queries, transport } = live(this.#api);
    freshet.close(); // before the first query: no stream, and reads are strong
    await queryClient.prefetchQuery(createQueryOptions(list, input, { transport }));
    const dehydrated = dehydrate(queryClient);
    this.change(dehydrated);
    this.reads = 0;
    const state = codec.serialize(dehydrated).replaceAll("<", "\\u003c");
    const page = <Page state={state} queryClient={queryClient} queries={queries} transport={transport} />;
    const { pipe } = renderToPipeableStream(page, {
      bootstrapModules: ["/client.js"],
      onAllReady() {
        response.writeHead(200, { "content-type": "text/html" });
        pipe(response);
      },
      onError(error) {
        response.destroy(error as Error);
      },
    });
    response.once("close", () => {
      queries.close();
      queryClient.clear();
    });
  }

  #pass(request: IncomingMessage, response: ServerResponse): void {
    if (request.url!.endsWith("/ListMessages")) this.reads++;
    const { method, headers } = request;
    const passed = ask(new URL(request.url!, this.#api), { method, headers: { ...headers, host: new URL(this.#api).host } }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  }
}
