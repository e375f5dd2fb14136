import { useMemo, useState } from "react";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { isPending, ownEtags } from "./messages.js";

type List = readonly Message[];

/**
 * Which messages came while the reader was further up, and what to say of those
 * that have just come to who hears the page. `list` is another object when it
 * has changed; undefined: not read yet.
 */
export function useArrivals(list: List | undefined, atEnd: boolean): { unseen: string; said: string } {
  const [known, setKnown] = useState(list);
  const [seen, setSeen] = useState(list);
  const [said, setSaid] = useState("");
  if (list !== known) {
    setKnown(list);
    const came = known && list ? after(known, list) : [];
    if (came.length > 0) setSaid(came.length > 1 ? `${came.length} new messages` : `${came[0]!.author}: ${came[0]!.body}`);
  }
  if (atEnd && list !== seen) setSeen(list);
  const unseen = useMemo(() => (seen && list && seen !== list ? after(seen, list) : []), [seen, list]);
  return { unseen: unseen.length === 0 ? "" : `${unseen.length} new message${unseen.length > 1 ? "s" : ""}`, said };
}

/** What others wrote since: it comes after the last one that was there before. */
function after(before: List, list: List): List {
  const names = new Set(before.map(({ name }) => name));
  const last = list.findLastIndex(({ name }) => names.has(name));
  return list.slice(last + 1).filter((message) => !isPending(message) && !ownEtags.has(message.etag));
}
