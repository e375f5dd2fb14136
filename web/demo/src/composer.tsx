import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent, type KeyboardEvent } from "react";
import { messages } from "./api.js";
import { describeError } from "./describe-error.js";

const authorKey = "freshet.author";

export function Composer({ conversation }: { conversation: string }) {
  const [author, setAuthor] = useState(() => localStorage.getItem(authorKey) ?? "you");
  const [body, setBody] = useState("");
  const send = useMutation({
    mutationFn: (message: { author: string; body: string; requestId: string }) =>
      messages.createMessage({
        parent: `conversations/${conversation}`,
        message: { author: message.author, body: message.body },
        requestId: message.requestId,
      }),
    // A retry with the same request id can't send twice.
    retry: 2,
    onError: (_error, message) => setBody((current) => current || message.body),
  });
  const ready = author.trim() !== "" && body.trim() !== "";
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (!ready) return;
    send.mutate({ author: author.trim(), body: body.trim(), requestId: newRequestId() });
    setBody("");
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
  };
  return (
    <form className="composer" onSubmit={submit} aria-label="New message">
      {send.error && (
        <p className="notice" role="alert">
          {describeError(send.error)}
        </p>
      )}
      <input
        className="author"
        aria-label="Your name"
        autoComplete="nickname"
        maxLength={128}
        value={author}
        onChange={(event) => {
          setAuthor(event.target.value);
          localStorage.setItem(authorKey, event.target.value);
        }}
      />
      <textarea
        aria-label="Message"
        placeholder={`Message #${conversation}`}
        rows={1}
        maxLength={16384}
        value={body}
        onChange={(event) => setBody(event.target.value)}
        onKeyDown={onKey}
      />
      <button type="submit" className="primary" disabled={!ready}>
        Send
      </button>
    </form>
  );
}

/** Only a secure context (https, or loopback) has randomUUID; without, no id. */
function newRequestId(): string {
  return globalThis.crypto.randomUUID?.() ?? "";
}
