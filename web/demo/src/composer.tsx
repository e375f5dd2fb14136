import { useRef, type FormEvent, type KeyboardEvent, type ReactNode } from "react";
import type { Draft } from "./messages.js";
import { session } from "./session.js";
import { setAuthor, setDraft, useUi } from "./ui-store.js";
import { useAuthor } from "./use-author.js";

interface Props {
  readonly conversation: string;
  readonly onSend: (draft: Draft) => void;
  readonly children?: ReactNode;
}

export function Composer({ conversation, onSend, children }: Props) {
  const author = useAuthor();
  const body = useUi((ui) => ui.drafts[conversation] ?? "");
  const field = useRef<HTMLTextAreaElement>(null);
  const ready = author.trim() !== "" && body.trim() !== "";
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (!ready) return;
    onSend({ conversation, author: author.trim(), body: body.trim() });
    setDraft(conversation, "");
    field.current?.focus(); // the button is about to be disabled
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
  };
  return (
    <form className="composer" onSubmit={submit} aria-label="New message">
      {children}
      <input
        className="author"
        aria-label="Your name"
        readOnly={session !== undefined}
        autoComplete="nickname"
        maxLength={128}
        value={author}
        onChange={(event) => setAuthor(event.target.value)}
      />
      <textarea
        ref={field}
        aria-label="Message"
        placeholder={`Message #${conversation}`}
        rows={1}
        maxLength={16384}
        value={body}
        onChange={(event) => setDraft(conversation, event.target.value)}
        onKeyDown={onKey}
      />
      <button type="submit" className="primary" disabled={!ready}>
        Send
      </button>
    </form>
  );
}
