import { useInvalidation } from "@freshet/query/react";
import { useQueryClient } from "@tanstack/react-query";
import { Composer } from "./composer.js";
import { Conversations } from "./conversations.js";
import { MessageList } from "./message-list.js";
import { StatusPill } from "./status-pill.js";
import { StreamPanel } from "./stream-panel.js";
import { useConversation } from "./use-conversation.js";

export function App() {
  const [conversation, select] = useConversation();
  const queryClient = useQueryClient();

  // This is all that makes the page live: every key that begins with "messages"
  // is read again when a message changed, whoever changed it.
  useInvalidation({
    topics: ["messages"],
    onInvalidate: () => queryClient.invalidateQueries({ queryKey: ["messages"] }),
  });

  return (
    <div className="app">
      <header className="bar">
        <a className="brand" href="#general">
          <img src="/favicon.svg" alt="" width="26" height="26" />
          <span>Freshet</span>
        </a>
        <StatusPill />
      </header>
      <Conversations selected={conversation} onSelect={select} />
      <main className="room" aria-labelledby="room-title">
        <h1 id="room-title" className="room-title">
          <span className="hash" aria-hidden="true">
            #
          </span>
          {conversation}
        </h1>
        <MessageList key={conversation} conversation={conversation} />
        <Composer key={`composer-${conversation}`} conversation={conversation} />
      </main>
      <StreamPanel conversation={conversation} />
    </div>
  );
}
