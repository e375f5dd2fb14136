import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Devtools } from "@freshet/devtools";
import type { QueryClient } from "@tanstack/react-query";
import type { ListConversationsResponse, ListMessagesResponse } from "./gen/messages/v1/messages_service_pb.js";

/** Of a list; what else is read has no pages. */
interface Pages {
  readonly pages?: readonly (ListMessagesResponse | ListConversationsResponse)[];
}

/**
 * Tells the inspector when the newest row of an answer was written, by the
 * database's clock. The stream itself carries no times. Of a deleted row there
 * is none left.
 */
export function followCommits(queryClient: QueryClient, devtools: Devtools): void {
  let latest = 0;
  queryClient.getQueryCache().subscribe((event) => {
    if (event.type !== "updated" || event.action.type !== "success" || event.action.manual) return;
    const newest = Math.max(0, ...timesOf(event.query.state.data as Pages));
    if (newest <= latest) return;
    if (latest > 0) devtools.committed(newest); // the first answer is no news
    latest = newest;
  });
}

function timesOf({ pages = [] }: Pages): number[] {
  const times = pages.flatMap((page): (Timestamp | undefined)[] =>
    "messages" in page ? page.messages.map((m) => m.updateTime) : page.conversations.map((c) => c.lastMessageTime),
  );
  return times.flatMap((time) => (time ? [timestampMs(time)] : []));
}
