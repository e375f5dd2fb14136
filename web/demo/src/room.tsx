import { useFreshness } from "@freshet/query/react";
import { useMutation } from "@tanstack/react-query";
import { Composer } from "./composer.js";
import { describeError } from "./describe-error.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { MessageList } from "./message-list.js";
import { deleteMessage, sendMessage, type Draft } from "./messages.js";
import { restoreDraft, useUi } from "./ui-store.js";

/** Both writes are on show before they are sent, so their errors belong here: what they were made on may be gone. */
export function Room({ conversation }: { conversation: string }) {
  const send = useMutation({
    mutationFn: (draft: Draft) => sendMessage(draft),
    // Offline it fails at once and the draft comes back, rather than being held.
    networkMode: "always",
    onError: (_error, draft) => restoreDraft(draft.conversation, draft.body),
  });
  const remove = useMutation({
    mutationFn: (message: Message) => deleteMessage(conversation, message),
    networkMode: "always",
  });
  const error = send.error ? describeError(send.error) : remove.error && describeError(remove.error, "It was not deleted.");
  const author = useUi((ui) => ui.author);
  const resend = (body: string) => send.mutate({ conversation, author: author.trim() || "you", body });
  const freshness = useFreshness([`conversations/${conversation}/messages`]);

  return (
    <main className="room" aria-labelledby="room-title">
      <div className="room-head">
        <h1 id="room-title">
          <span className="hash" aria-hidden="true">
            #
          </span>
          {conversation}
        </h1>
        <span className="freshness" data-freshness={freshness} title="How well this conversation’s topic is followed">
          {freshness}
        </span>
      </div>
      <MessageList conversation={conversation} onDelete={remove.mutate} onResend={resend} />
      <Composer conversation={conversation} onSend={send.mutate}>
        {error && (
          <p className="notice" role="alert">
            {error}
          </p>
        )}
      </Composer>
    </main>
  );
}
