import { Code } from "@connectrpc/connect";
import { useMutation } from "@tanstack/react-query";
import { useLayoutEffect, useRef, type FormEvent, type KeyboardEvent } from "react";
import { describeError, isDenied } from "./describe-error.js";
import { useFocusAfter } from "./focus.js";
import { updateMessage, useMessage } from "./messages.js";
import { closeEditor, edit, type Editing } from "./ui-store.js";

interface Props {
  readonly editing: Editing;
  /** Where the focus goes when it is closed. */
  readonly next: () => HTMLElement | null;
  /** The message is gone: all that can be done with the text is to send it anew. */
  readonly onResend?: (body: string) => void;
  /** It took the place of an editor that may have had the focus: nobody opened it. */
  readonly moved?: boolean;
}

export function Editor({ editing, next, onResend, moved = false }: Props) {
  useFocusAfter(next);
  const { name, etag, body } = editing;
  const field = useRef<HTMLTextAreaElement>(null);
  const close = () => closeEditor(name);
  const save = useMutation({ mutationFn: () => updateMessage(name, etag, body), networkMode: "always", onSuccess: close });
  useLayoutEffect(() => {
    if (moved && document.activeElement !== document.body) return;
    const element = field.current!;
    element.focus({ preventScroll: moved });
    element.setSelectionRange(element.value.length, element.value.length);
  }, [moved]);
  const empty = body.trim() === "";
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (empty || save.isPending) return;
    if (!onResend) return save.mutate();
    onResend(body.trim());
    close();
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
        onChange={(event) => edit({ ...editing, body: event.target.value })}
        onKeyDown={onKey}
      />
      {save.error && !onResend && (
        <p className={isDenied(save.error) ? "notice calm" : "notice"} role="alert">
          {describeError(save.error, "Cancel to see their text.")}
        </p>
      )}
      <div className="editor-actions">
        <button type="submit" className="primary" disabled={empty || save.isPending}>
          {onResend ? "Send as new" : "Save"}
        </button>
        <button type="button" onClick={close}>
          {onResend ? "Discard" : "Cancel"}
        </button>
        <span className="hint">{onResend ? "Enter sends, Escape discards" : "Enter saves, Escape cancels"}</span>
      </div>
    </form>
  );
}

/**
 * An editor whose message has left the list: deleted by somebody, or above what
 * is read by now. What was typed stays either way.
 */
export function LostEditor({ editing, next, onResend }: Required<Omit<Props, "moved">>) {
  const { error } = useMessage(editing.name);
  const deleted = error?.code === Code.NotFound;
  return (
    <div className="lost">
      <p className="notice" role="alert">
        {deleted
          ? "Someone deleted this message while you edited it. Your text is still here."
          : "The message that you edit is further up."}
      </p>
      {/* A key each: what failed for the one is no news for the other. */}
      {deleted ? (
        <Editor key="new" editing={editing} next={next} onResend={onResend} moved />
      ) : (
        <Editor key="edit" editing={editing} next={next} moved />
      )}
    </div>
  );
}
