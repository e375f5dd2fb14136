import { useQuery } from "@tanstack/react-query";
import { useLayoutEffect, useRef, useState } from "react";
import { messages } from "./api.js";
import { describeError } from "./describe-error.js";
import { MessageItem } from "./message-item.js";

const pageSize = 100;

export function MessageList({ conversation }: { conversation: string }) {
  const parent = `conversations/${conversation}`;
  const { data, error, isPending, isFetching, refetch } = useQuery({
    queryKey: ["messages", "list", parent],
    queryFn: ({ signal }) => messages.listMessages({ parent, pageSize }, { signal }),
  });
  // What was there at first doesn't flash; what comes or changes later does.
  const [initial, setInitial] = useState<ReadonlySet<string>>();
  if (data && !initial) setInitial(new Set(data.messages.map((message) => message.etag)));

  const list = data?.messages.toReversed() ?? [];
  const newest = list.at(-1)?.name;

  // Follows the newest message, unless the reader has scrolled up.
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [newest, list.length]);
  const onScroll = () => {
    const element = scroller.current!;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 48;
  };

  return (
    <div className="messages" ref={scroller} onScroll={onScroll} tabIndex={-1}>
      <div className={isFetching ? "progress on" : "progress"} aria-hidden="true" />
      {error && (
        <p className="notice" role="alert">
          {describeError(error)}{" "}
          <button type="button" className="link" onClick={() => void refetch()}>
            Try again
          </button>
        </p>
      )}
      {isPending && !error && <p className="hint center">Reading…</p>}
      {data && list.length === 0 && (
        <div className="empty">
          <p>Nothing here yet.</p>
          <p className="hint">Say something below, or insert a row by SQL. Both appear at once.</p>
        </div>
      )}
      {data?.nextPageToken && <p className="hint center">The newest {pageSize} messages.</p>}
      <ol aria-label={`Messages in ${conversation}`} aria-live="polite" aria-relevant="additions">
        {list.map((message) => (
          <MessageItem key={message.name} message={message} fresh={!initial?.has(message.etag)} />
        ))}
      </ol>
    </div>
  );
}
