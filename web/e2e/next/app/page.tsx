import { createQueryOptions } from "@connectrpc/connect-query";
import { dehydrate, HydrationBoundary } from "@tanstack/react-query";
import { input, list, live } from "./live";
import { Messages } from "./messages";

export const dynamic = "force-dynamic";

/** A server component: what it reads is shown as text, and followed by the browser. */
export default async function Page() {
  const { freshet, queryClient, queries, transport } = live(process.env["FRESHET_API"]!);
  freshet.close(); // before the first query
  await queryClient.prefetchQuery(createQueryOptions(list, input, { transport }));
  const state = dehydrate(queryClient);
  queries.close();
  return (
    <HydrationBoundary state={state}>
      <Messages />
    </HydrationBoundary>
  );
}
