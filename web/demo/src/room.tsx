import { useFreshness } from "@freshet/query/react";
import { useMutation } from "@tanstack/react-query";
import { Composer } from "./composer.js";
import { describeError, isDenied } from "./describe-error.js";
import type { Message } from "./gen/messages/v1/messages_pb.js";
import { MessageList } from "./message-list.js";
import { deleteMessage, sendMessage, useMessages, type Draft } from "./messages.js";
import { restoreDraft } from "./ui-store.js";
import { useAuthor } from "./use-author.js";

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
  const messages = useMessages(conversation);
  const denied = isDenied(messages.list.error);
  const error = send.error ? describeError(send.error) : remove.error && describeError(remove.error, "It was not deleted.");
  const author = useAuthor();
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
        {denied ? (
          <span className="freshness">no access</span>
        ) : (
          <span className="freshness" data-freshness={freshness} title="How well this conversation’s topic is followed">
            {freshness}
          </span>
        )}
      </div>
      <MessageList conversation={conversation} messages={messages} onDelete={remove.mutate} onResend={resend} />
      {!denied && (
        <Composer conversation={conversation} onSend={send.mutate}>
          {error && (
            <p className={isDenied(send.error ?? remove.error) ? "notice calm" : "notice"} role="alert">
              {error}
            </p>
          )}
        </Composer>
      )}
    </main>
  );
}
