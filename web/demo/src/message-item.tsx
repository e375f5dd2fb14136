import { timestampDate } from "@bufbuild/protobuf/wkt";
import { memo, useEffect, useRef, useState } from "react";
import { Editor } from "./editor.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { isPending } from "./messages.js";
import { edit, useUi } from "./ui-store.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

interface Props {
  readonly message: Message;
  /** It came, or changed, while the list was on screen. */
  readonly fresh: boolean;
  readonly onDelete: (message: Message) => void;
}

/** A list is read as a whole, for the sake of one of its messages mostly. */
export const MessageItem = memo(
  Item,
  (a, b) =>
    a.message.name === b.message.name &&
    a.message.etag === b.message.etag &&
    a.fresh === b.fresh &&
    a.onDelete === b.onDelete,
);

function Item({ message, fresh, onDelete }: Props) {
  const { name, author, body, etag } = message;
  const editing = useUi((ui) => ui.edits[name]);
  const editButton = useRef<HTMLButtonElement>(null);
  const created = message.createTime && timestampDate(message.createTime);
  const updated = message.updateTime && timestampDate(message.updateTime);
  const sending = isPending(message);
  return (
    <li className={sending ? "message sending" : "message"} data-name={name}>
      <span className="avatar" data-hue={hue(author)} aria-hidden="true">
        {[...author][0]?.toUpperCase()}
      </span>
      {/* The key restarts the flash when the message changes, but not under an editor. */}
      <div className={fresh && !sending ? "content fresh" : "content"} key={editing ? "editor" : etag}>
        <p className="meta">
          <b>{author}</b>
          {created && (
            <time dateTime={created.toISOString()} title={full.format(created)}>
              {clock.format(created)}
            </time>
          )}
          {created && updated && updated > created && <span title={full.format(updated)}>edited</span>}
          {sending && <span>sending…</span>}
        </p>
        {editing ? <Editor editing={editing} next={() => editButton.current} /> : <p className="body">{body}</p>}
      </div>
      {!editing && !sending && (
        <div className="actions">
          <button ref={editButton} type="button" onClick={() => edit({ name, etag, body })} aria-label={`Edit message by ${author}`}>
            Edit
          </button>
          {/* Another question for another text: who agreed to one hasn't seen the other. */}
          <Delete key={etag} author={author} onDelete={() => onDelete(message)} />
        </div>
      )}
    </li>
  );
}

/**
 * Asks first. The server deletes for good, and a message that the page only
 * hid for a while, so as to be able to bring it back, would still be there for
 * everybody else.
 */
function Delete({ author, onDelete }: { author: string; onDelete: () => void }) {
  const [asked, setAsked] = useState(false);
  const ask = useRef<HTMLButtonElement>(null);
  const back = useRef(false);
  useEffect(() => {
    if (!asked && back.current) ask.current?.focus();
    back.current = false;
  }, [asked]);
  const keep = () => {
    back.current = true;
    setAsked(false);
  };
  if (!asked) {
    return (
      <button ref={ask} type="button" className="danger" onClick={() => setAsked(true)} aria-label={`Delete message by ${author}`}>
        Delete
      </button>
    );
  }
  return (
    <span
      className="question"
      role="group"
      aria-label={`Delete message by ${author} for good?`}
      onKeyDown={(event) => event.key === "Escape" && keep()}
      onBlur={(event) => !event.currentTarget.contains(event.relatedTarget) && setAsked(false)}
    >
      <button type="button" className="danger" autoFocus onClick={onDelete}>
        Delete for good
      </button>
      <button type="button" onClick={keep}>
        Keep
      </button>
    </span>
  );
}

/** One of six colours for a name, the same on every page (FNV-1a). */
function hue(name: string): number {
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  return ((hash >>> 0) >>> 7) % 6;
}
