import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { describeError } from "./describe-error.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { MessageItem } from "./message-item.js";
import { ownEtags, useMessages } from "./messages.js";

interface Props {
  readonly conversation: string;
  readonly onDelete: (message: Message) => void;
}

export function MessageList({ conversation, onDelete }: Props) {
  const { data, error, isPending, isFetching, isFetchingNextPage, hasNextPage, fetchNextPage, refetch } =
    useMessages(conversation);
  const list = data?.pages.flatMap((page) => page.messages).toReversed() ?? [];

  // What was there at first, or is read by scrolling up, doesn't flash; what
  // comes or changes later does.
  const [greeted, setGreeted] = useState<ReadonlySet<string>>(new Set());
  const pages = data?.pages.length ?? 0;
  const [seenPages, setSeenPages] = useState(0);
  if (pages > seenPages) {
    setSeenPages(pages);
    setGreeted(new Set([...greeted, ...list.map(({ etag }) => etag)]));
  }

  const scroller = useScroll(list);
  const older = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    // The button comes into sight: that is as good as pressing it, once. After a
    // failure it has to be pressed.
    if (!older.current || isFetching || error) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting) void fetchNextPage();
      },
      { root: scroller.current, rootMargin: "300px 0px 0px" },
    );
    observer.observe(older.current);
    return () => observer.disconnect();
  }, [scroller, isFetching, error, fetchNextPage, hasNextPage]);

  return (
    // A region that scrolls can be reached by keyboard.
    <div className="messages" ref={scroller} tabIndex={0} role="region" aria-label={`Conversation ${conversation}`}>
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
      {hasNextPage && (
        <p className="center">
          <button ref={older} type="button" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            {isFetchingNextPage ? "Reading…" : "Older messages"}
          </button>
        </p>
      )}
      <ol aria-label={`Messages in ${conversation}`} aria-live="polite" aria-relevant="additions">
        {list.map((message) => (
          <MessageItem
            key={message.name}
            message={message}
            fresh={!greeted.has(message.etag) && !ownEtags.has(message.etag)}
            onDelete={onDelete}
          />
        ))}
      </ol>
    </div>
  );
}

/** Follows the newest message, unless the reader has scrolled up; then what is in sight stays where it is. */
function useScroll(list: readonly Message[]) {
  const scroller = useRef<HTMLDivElement>(null);
  // Where the reader was before the list changed, counted from its end.
  const below = useRef(0);
  const first = useRef<string>(undefined);
  useEffect(() => {
    const element = scroller.current!;
    const note = () => {
      below.current = element.scrollHeight - element.scrollTop - element.clientHeight;
    };
    element.addEventListener("scroll", note, { passive: true });
    return () => element.removeEventListener("scroll", note);
  }, []);
  useLayoutEffect(() => {
    const element = scroller.current!;
    const atEnd = below.current < 48;
    const prepended = first.current !== undefined && first.current !== list[0]?.name;
    first.current = list[0]?.name;
    if (atEnd) element.scrollTop = element.scrollHeight;
    else if (prepended) element.scrollTop = element.scrollHeight - element.clientHeight - below.current;
    below.current = element.scrollHeight - element.scrollTop - element.clientHeight;
  }, [list]);
  return scroller;
}
