import type { ServerResponse } from "node:http";
import { createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, type DehydratedState } from "@tanstack/react-query";
import { renderToPipeableStream } from "react-dom/server";
import { codec, input, list, live, Page } from "./app.js";

/** Renders the page from what an API answers at that moment. */
export async function render(api: string, response: ServerResponse, change: (state: DehydratedState) => void): Promise<void> {
  const { freshet, queryClient, queries, transport } = live(api);
  freshet.close(); // before the first query: no stream, and reads are strong
  await queryClient.prefetchQuery(createQueryOptions(list, input, { transport }));
  const dehydrated = dehydrate(queryClient);
  change(dehydrated);
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
