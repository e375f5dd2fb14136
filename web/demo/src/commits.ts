import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { QueryClient } from "@tanstack/react-query";
import type { ListConversationsResponse, ListMessagesResponse } from "./gen/messages/v1/messages_service_pb.js";
import type { Trace } from "./trace.js";

type Data = ListConversationsResponse | { readonly pages: readonly ListMessagesResponse[] } | undefined;

/**
 * Tells the trace when the newest row of an answer was written, by the
 * database's clock. The stream itself carries no times. Of a deleted row there
 * is none left.
 */
export function followCommits(queryClient: QueryClient, trace: Trace): void {
  let latest = 0;
  queryClient.getQueryCache().subscribe((event) => {
    if (event.type !== "updated" || event.action.type !== "success" || event.action.manual) return;
    const newest = Math.max(0, ...timesOf(event.query.state.data as Data));
    if (newest <= latest) return;
    if (latest > 0) trace.committed(newest); // the first answer is no news
    latest = newest;
  });
}

function timesOf(data: Data): number[] {
  let times: (Timestamp | undefined)[] = [];
  if (data && "pages" in data) times = data.pages.flatMap(({ messages }) => messages.map((m) => m.updateTime));
  else if (data) times = data.conversations.map((c) => c.lastMessageTime);
  return times.flatMap((time) => (time ? [timestampMs(time)] : []));
}
