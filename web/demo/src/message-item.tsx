import { timestampDate } from "@bufbuild/protobuf/wkt";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useRef, type FormEvent, type KeyboardEvent } from "react";
import { describeError } from "./describe-error.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { isPending, updateMessage } from "./messages.js";
import { edit, setEdited, useUi, type Editing } from "./ui-store.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

interface Props {
  readonly message: Message;
  /** It came, or changed, while the list was on screen. */
  readonly fresh: boolean;
  readonly onDelete: (message: Message) => void;
}

export function MessageItem({ message, fresh, onDelete }: Props) {
  const { name, author, body, etag } = message;
  const editing = useUi((ui) => (ui.editing?.name === name ? ui.editing : undefined));
  const open = editing !== undefined;
  const editButton = useRef<HTMLButtonElement>(null);
  const created = message.createTime && timestampDate(message.createTime);
  const updated = message.updateTime && timestampDate(message.updateTime);
  const sending = isPending(message);
  // The focus goes back to where the editor was opened, unless it has moved on.
  useEffect(() => {
    if (!open) return;
    return () => {
      requestAnimationFrame(() => {
        if (document.activeElement === document.body) editButton.current?.focus();
      });
    };
  }, [open]);

  return (
    <li className={sending ? "message sending" : "message"} data-name={name}>
      <span className="avatar" data-hue={hue(author)} aria-hidden="true">
        {[...author][0]?.toUpperCase()}
      </span>
      {/* The key restarts the flash when the message changes, but not under an editor. */}
      <div className={fresh && !sending ? "content fresh" : "content"} key={open ? "editor" : etag}>
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
        {editing ? <Editor editing={editing} /> : <p className="body">{body}</p>}
      </div>
      {!open && !sending && (
        <div className="actions">
          <button ref={editButton} type="button" onClick={() => edit({ name, etag, body })} aria-label={`Edit message by ${author}`}>
            Edit
          </button>
          <button type="button" className="danger" onClick={() => onDelete(message)} aria-label={`Delete message by ${author}`}>
            Delete
          </button>
        </div>
      )}
    </li>
  );
}

function Editor({ editing: { name, etag, body } }: { editing: Editing }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const close = () => edit(undefined);
  const save = useMutation({ mutationFn: () => updateMessage(name, etag, body), networkMode: "always", onSuccess: close });
  useEffect(() => {
    const element = field.current!;
    element.focus();
    element.setSelectionRange(element.value.length, element.value.length);
  }, []);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (body.trim() !== "" && !save.isPending) save.mutate();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
  };
  return (
    <form className="editor" onSubmit={submit}>
      <textarea
        ref={field}
        aria-label="Message text"
        rows={2}
        maxLength={16384}
        value={body}
        onChange={(event) => setEdited(event.target.value)}
        onKeyDown={onKey}
      />
      {save.error && (
        <p className="notice" role="alert">
          {describeError(save.error)}
        </p>
      )}
      <div className="editor-actions">
        <button type="submit" className="primary" disabled={body.trim() === "" || save.isPending}>
          Save
        </button>
        <button type="button" onClick={close}>
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
