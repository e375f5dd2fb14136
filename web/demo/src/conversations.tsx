import { useEffect, useRef, useState, type FormEvent } from "react";
import { isDenied } from "./describe-error.js";
import { busy, useFocusAfter } from "./focus.js";
import { useConversations } from "./messages.js";
import { addressOf, conversationPattern, selectConversation } from "./ui-store.js";
import { useSession } from "./use-session.js";

/** room-2 before room-10. */
const natural = new Intl.Collator("en", { numeric: true });

interface Listed {
  readonly id: string;
  /** Undefined: it may be among those that are not read. */
  readonly count: number | undefined;
}

export function Conversations({ selected }: { selected: string }) {
  const { list: read, hasMore, growing, growError, grow } = useConversations();
  const own = useSession()?.account?.conversations;
  const denied = isDenied(read.error);
  const known = denied ? [] : (read.data?.pages.flatMap((page) => page.conversations) ?? []);
  const list: Listed[] = known.map((c) => ({
    id: c.name.replace("conversations/", ""),
    count: Number(c.messageCount),
  }));
  // Who may not read the list of all is shown what is its own.
  if (denied) list.push(...(own ?? []).map((id) => ({ id, count: undefined })));
  // A conversation exists while it has messages; the one on screen is shown anyway.
  if (!list.some((c) => c.id === selected)) list.push({ id: selected, count: read.data && !denied && !hasMore ? 0 : undefined });
  list.sort((a, b) => natural.compare(a.id, b.id));
  const { current, list: scroller } = useInSight(selected, known.length > 0 || denied);

  return (
    <nav className="conversations" aria-label="Conversations">
      <h2 className="label">Conversations</h2>
      <NewConversation />
      <div className="list" ref={scroller}>
        <ul>
          {list.map((c) => (
            <li key={c.id}>
              <a
                href={addressOf(c.id)}
                ref={c.id === selected ? current : undefined}
                aria-current={c.id === selected ? "page" : undefined}
              >
                <span className="hash" aria-hidden="true">
                  #
                </span>
                <span className="name">{c.id}</span>
                {c.count !== undefined && (
                  <span className="count">
                    {c.count}
                    <span className="unseen"> messages</span>
                  </span>
                )}
              </a>
            </li>
          ))}
        </ul>
        {denied && <p className="hint more">{own ? "Yours. The list of all isn’t yours to read." : "The list isn’t yours to read."}</p>}
        {!denied && hasMore && (
          <p className="more">
            <span className="hint">The first {known.length} by name.</span>
            <More growing={growing} grow={grow} next={() => scroller.current?.querySelector("li:last-child a")} />
          </p>
        )}
        {!denied && ((read.isError && !read.data) || growError) && <p className="hint">The list could not be read just now.</p>}
      </div>
    </nav>
  );
}

interface MoreProps {
  readonly growing: boolean;
  readonly grow: () => void;
  readonly next: () => HTMLElement | null | undefined;
}

function More({ growing, grow, next }: MoreProps) {
  useFocusAfter(next);
  return (
    <button type="button" {...busy(growing)} onClick={grow}>
      {growing ? "Reading…" : "More"}
    </button>
  );
}

/** The selected one is scrolled to when it is selected, when the list is first there, and when its space changes. */
function useInSight(selected: string, there: boolean) {
  const current = useRef<HTMLAnchorElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const show = () => current.current?.scrollIntoView({ block: "nearest", inline: "center" });
    show();
    const observer = new ResizeObserver(show);
    observer.observe(list.current!);
    return () => observer.disconnect();
  }, [selected, there]);
  return { current, list };
}

function NewConversation() {
  const [text, setText] = useState("");
  const id = text.trim().toLowerCase().replace(/\s+/g, "-");
  const valid = conversationPattern.test(id);
  const field = useRef<HTMLInputElement>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!valid) return;
    selectConversation(id);
    setText("");
    field.current?.focus(); // the button is about to be disabled
  };
  return (
    <form className="new-conversation" onSubmit={submit}>
      <input
        ref={field}
        aria-label="New conversation"
        aria-invalid={text !== "" && !valid}
        placeholder="New…"
        autoComplete="off"
        maxLength={63}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" disabled={!valid} aria-label="Open the conversation">
        +
      </button>
    </form>
  );
}
