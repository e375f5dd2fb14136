import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { Denied } from "./denied.js";
import { describeError, isDenied } from "./describe-error.js";
import { LostEditor } from "./editor.js";
import { busy, useFocusAfter, useKeptFocus } from "./focus.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { MessageItem } from "./message-item.js";
import { isPending, ownEtags, type Messages } from "./messages.js";
import { useUi } from "./ui-store.js";
import { useArrivals } from "./use-arrivals.js";
import { useScroll } from "./use-scroll.js";

interface Props {
  readonly conversation: string;
  readonly messages: Messages;
  readonly onDelete: (message: Message) => void;
  readonly onResend: (body: string) => void;
}

const none: readonly Message[] = [];

export function MessageList({ conversation, messages, onDelete, onResend }: Props) {
  const { isFetching, refetch } = messages.list;
  const denied = isDenied(messages.list.error);
  // What was read while that was allowed isn't any more.
  const data = denied ? undefined : messages.list.data;
  const error = denied ? null : (messages.list.error ?? messages.growError);
  const read = useMemo(() => data?.pages.flatMap((page) => page.messages).toReversed(), [data]);
  const list = read ?? none;

  // What was there at first, or is read by scrolling up, doesn't flash; what
  // comes or changes later does.
  const [greeted, setGreeted] = useState<ReadonlySet<string>>(new Set());
  const [greetedOf, setGreetedOf] = useState("");
  const pages = data ? `${data.pages.length} of ${messages.pageSize}` : "";
  if (pages !== greetedOf) {
    setGreetedOf(pages);
    setGreeted(new Set([...greeted, ...list.map(({ etag }) => etag)]));
  }

  const { scroller, items, atEnd, toEnd } = useScroll(list);
  const { unseen, said } = useArrivals(read, atEnd);
  const focus = useKeptFocus(list, items, scroller);
  const region = () => scroller.current;
  useShrinking(messages, { atEnd, list, scroller, items });
  // Whoever sends something wants to see it.
  const newest = list.at(-1);
  const sent = newest && isPending(newest) ? newest.name : undefined;
  useLayoutEffect(() => {
    if (sent) toEnd();
  }, [sent, toEnd]);

  const edits = useUi((ui) => ui.edits);
  const lost = Object.values(edits).filter(
    ({ name }) => data && name.startsWith(`conversations/${conversation}/`) && !list.some((m) => m.name === name),
  );

  return (
    <>
      {/* A region that scrolls can be reached by keyboard. */}
      <div className="messages" ref={scroller} tabIndex={0} role="region" aria-label={`Conversation ${conversation}`}>
        <div className={isFetching || messages.growing ? "progress on" : "progress"} aria-hidden="true" />
        {error && (
          <p className="notice" role="alert">
            {describeError(error)} <TryAgain onTry={() => (messages.list.error ? void refetch() : messages.grow())} next={region} />
          </p>
        )}
        {denied && <Denied conversation={conversation} onRetry={() => void refetch()} />}
        {!data && !error && !denied && <p className="hint center">Reading…</p>}
        {data && list.length === 0 && (
          <div className="empty">
            <p>Nothing here yet.</p>
            <p className="hint">Say something below, or insert a row by SQL. Both appear at once.</p>
          </div>
        )}
        {data && messages.hasMore && <Older messages={messages} scroller={scroller} />}
        <ol ref={items} aria-label={`Messages in ${conversation}`} {...focus}>
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
      <p className="unseen" aria-live="polite">
        {unseen ? `${unseen} below` : said}
      </p>
      {!atEnd && (
        <button
          type="button"
          className={unseen ? "newest primary" : "newest"}
          onClick={() => {
            toEnd();
            scroller.current?.focus({ preventScroll: true }); // the button is about to go
          }}
        >
          {unseen || "Newest"} <span aria-hidden="true">↓</span>
        </button>
      )}
      {lost.length > 0 && (
        <div className="lost-editors">
          {lost.map((editing) => (
            <LostEditor key={editing.name} editing={editing} next={region} onResend={onResend} />
          ))}
        </div>
      )}
    </>
  );
}

type Place = ReturnType<typeof useScroll>;

function TryAgain({ onTry, next }: { onTry: () => void; next: () => HTMLElement | null }) {
  useFocusAfter(next);
  return (
    <button type="button" className="link" onClick={onTry}>
      Try again
    </button>
  );
}

/** The button comes into sight: that is as good as pressing it, once. After a failure it has to be pressed. */
function Older({ messages, scroller }: { messages: Messages; scroller: Place["scroller"] }) {
  const { list, growing, growError, grow, pageSize } = messages;
  useFocusAfter(() => scroller.current);
  const older = useRef<HTMLButtonElement>(null);
  const press = useRef(grow);
  useEffect(() => {
    press.current = grow;
  });
  const idle = !list.isFetching && !growing && !list.error && !growError;
  const pages = list.data?.pages.length;
  useEffect(() => {
    if (!older.current || !idle) return;
    // Several at once are told in order, on a page that is busy: the last one holds.
    const observer = new IntersectionObserver((entries) => entries.at(-1)?.isIntersecting && press.current(), {
      root: scroller.current,
      rootMargin: "300px 0px 0px",
    });
    observer.observe(older.current);
    return () => observer.disconnect();
  }, [scroller, idle, pageSize, pages]);
  return (
    <p className="center">
      <button ref={older} type="button" {...busy(growing)} onClick={grow}>
        {growing ? "Reading…" : "Older messages"}
      </button>
    </p>
  );
}

/**
 * Back at the end, what was read further up is let go: nobody looks at it, and
 * each change would read it again. Not as long as something up there is in use,
 * nor where it would be in sight at once.
 */
function useShrinking(
  { grown, leastSize, shrink }: Messages,
  { atEnd, list, scroller, items }: Pick<Place, "atEnd" | "scroller" | "items"> & { list: readonly Message[] },
) {
  const act = useRef({ wanted: (): boolean => false, shrink });
  useEffect(() => {
    const wanted = () => {
      const [view, all] = [scroller.current, items.current];
      if (!view || !all || view.scrollHeight - view.scrollTop - view.clientHeight > 1) return false;
      const oldest = all.children[all.children.length - leastSize];
      const room = oldest ? view.getBoundingClientRect().bottom - oldest.getBoundingClientRect().top : 0;
      const going = [...all.children].slice(0, -leastSize);
      const used = going.some((item) => item.contains(document.activeElement) || item.querySelector(".editor"));
      return room > view.clientHeight + 600 && !used;
    };
    act.current = { wanted, shrink };
  });
  useEffect(() => {
    const { wanted, shrink } = act.current;
    if (atEnd && grown && wanted()) shrink(() => act.current.wanted());
    // A list that has changed is a chance to look again.
  }, [atEnd, grown, list]);
}
