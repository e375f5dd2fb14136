import { timestampDate } from "@bufbuild/protobuf/wkt";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, useState, type FormEvent, type KeyboardEvent } from "react";
import { messages } from "./api.js";
import { describeError } from "./describe-error.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** `fresh`: it came, or changed, while the list was on screen. */
export function MessageItem({ message, fresh }: { message: Message; fresh: boolean }) {
  const [editing, setEditing] = useState(false);
  const editButton = useRef<HTMLButtonElement>(null);
  const created = message.createTime ? timestampDate(message.createTime) : undefined;
  const updated = message.updateTime ? timestampDate(message.updateTime) : undefined;
  const edited = created && updated && updated > created;

  const remove = useMutation({
    mutationFn: () => messages.deleteMessage({ name: message.name, etag: message.etag }),
  });
  // The focus goes back to where the editor was opened, unless it has moved on.
  useEffect(() => {
    if (!editing) return;
    return () => {
      requestAnimationFrame(() => {
        if (document.activeElement === document.body) editButton.current?.focus();
      });
    };
  }, [editing]);

  return (
    <li className="message" data-name={message.name}>
      <span className="avatar" data-hue={hue(message.author)} aria-hidden="true">
        {[...message.author][0]?.toUpperCase()}
      </span>
      {/* The key restarts the flash when the message changes, but not under an editor. */}
      <div className={fresh ? "content fresh" : "content"} key={editing ? "editor" : message.etag}>
        <p className="meta">
          <b>{message.author}</b>
          {created && (
            <time dateTime={created.toISOString()} title={full.format(created)}>
              {clock.format(created)}
            </time>
          )}
          {edited && <span title={full.format(updated)}>edited</span>}
        </p>
        {editing ? <Editor message={message} onClose={() => setEditing(false)} /> : <p className="body">{message.body}</p>}
        {remove.error && (
          <p className="notice" role="alert">
            {describeError(remove.error)}
          </p>
        )}
      </div>
      {!editing && (
        <div className="actions">
          <button ref={editButton} type="button" onClick={() => setEditing(true)} aria-label={`Edit message by ${message.author}`}>
            Edit
          </button>
          <button type="button" className="danger" disabled={remove.isPending} onClick={() => remove.mutate()} aria-label={`Delete message by ${message.author}`}>
            Delete
          </button>
        </div>
      )}
    </li>
  );
}

function Editor({ message, onClose }: { message: Message; onClose: () => void }) {
  // The draft keeps the etag that it is based on: a change by someone else
  // meanwhile is a conflict, not a silent overwrite.
  const [based] = useState(message);
  const [body, setBody] = useState(message.body);
  const field = useRef<HTMLTextAreaElement>(null);
  const save = useMutation({
    mutationFn: () =>
      messages.updateMessage({
        message: { name: based.name, body, etag: based.etag },
        updateMask: { paths: ["body"] },
      }),
    onSuccess: onClose,
  });
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(body.length, body.length);
    // Once, when the editor opens.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, []);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (body.trim() !== "" && !save.isPending) save.mutate();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape") onClose();
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
  };
  return (
    <form className="editor" onSubmit={submit}>
      <textarea ref={field} aria-label="Message text" rows={2} maxLength={16384} value={body} onChange={(event) => setBody(event.target.value)} onKeyDown={onKey} />
      {save.error && (
        <p className="notice" role="alert">
          {describeError(save.error)}
        </p>
      )}
      <div className="editor-actions">
        <button type="submit" className="primary" disabled={body.trim() === "" || save.isPending}>
          Save
        </button>
        <button type="button" onClick={onClose}>
          Cancel
        </button>
        <span className="hint">Enter saves, Escape cancels</span>
      </div>
    </form>
  );
}

/** One of six colours for a name, the same on every page (FNV-1a). */
function hue(name: string): number {
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  return ((hash >>> 0) >>> 7) % 6;
}
