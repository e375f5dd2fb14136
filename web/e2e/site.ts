import { createServer, request as ask, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { rolldown } from "rolldown";

/** Answers a request for the page. */
type Render = (response: ServerResponse, url: URL) => Promise<void>;

/** A page of a test's own, in front of an API: what it doesn't serve itself is passed on. */
export class Site {
  /** Reads that browsers have sent. */
  reads = 0;
  readonly #api: string;
  readonly #server: Server;

  private constructor(api: string, own: (request: IncomingMessage, response: ServerResponse, url: URL) => boolean) {
    this.#api = api;
    this.#server = createServer((request, response) => {
      if (!own(request, response, new URL(request.url!, "http://localhost"))) this.#pass(request, response, this.#api);
    });
  }

  /** `client` is the module of /client.js, in TypeScript; `render` answers "/". */
  static async start(api: string, client: string, render: Render): Promise<Site> {
    const bundle = await rolldown({
      input: client,
      platform: "browser",
      onLog: (level, log) => {
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") console.warn(level, log.message); // "use client": all of it is
      },
      transform: { define: { "process.env.NODE_ENV": '"production"' }, jsx: "react-jsx" },
    });
    const { output } = await bundle.generate({ format: "es", codeSplitting: false });
    const site = new Site(api, (_, response, url) => {
      if (url.pathname === "/") {
        render(response, url).catch((error: unknown) => response.destroy(error as Error));
      } else if (url.pathname === "/client.js") {
        response.writeHead(200, { "content-type": "text/javascript" }).end(output[0].code);
      } else return false;
      return true;
    });
    return site.#listen();
  }

  /** The page is another server's: "/", and what is below `assets`. */
  static before(api: string, page: string, assets: string): Promise<Site> {
    const site: Site = new Site(api, (request, response, url) => {
      const its = url.pathname === "/" || url.pathname.startsWith(assets);
      if (its) site.#pass(request, response, page);
      return its;
    });
    return site.#listen();
  }

  async #listen(): Promise<Site> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  #pass(request: IncomingMessage, response: ServerResponse, to: string): void {
    if (request.url!.endsWith("/ListMessages")) this.reads++;
    const { method, headers } = request;
    const passed = ask(new URL(request.url!, to), { method, headers: { ...headers, host: new URL(to).host } }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  }
}
