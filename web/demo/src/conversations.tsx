import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { messages } from "./api.js";
import { conversationPattern } from "./use-conversation.js";

export function Conversations(props: { selected: string; onSelect: (id: string) => void }) {
  const { data, isError } = useQuery({
    queryKey: ["messages", "conversations"],
    queryFn: ({ signal }) => messages.listConversations({ pageSize: 200 }, { signal }),
  });
  const known = data?.conversations.map((c) => ({
    id: c.name.replace("conversations/", ""),
    count: Number(c.messageCount),
  }));
  // A conversation exists while it has messages; the one on screen is shown anyway.
  const list = known ?? [];
  if (!list.some((c) => c.id === props.selected)) list.push({ id: props.selected, count: 0 });
  list.sort((a, b) => (a.id < b.id ? -1 : 1));

  return (
    <nav className="conversations" aria-label="Conversations">
      <h2 className="label">Conversations</h2>
      <ul>
        {list.map((c) => (
          <li key={c.id}>
            <a href={`#${c.id}`} aria-current={c.id === props.selected ? "page" : undefined}>
              <span className="hash" aria-hidden="true">
                #
              </span>
              <span className="name">{c.id}</span>
              <span className="count" aria-label={`${c.count} messages`}>
                {c.count}
              </span>
            </a>
          </li>
        ))}
      </ul>
      {isError && !data && <p className="hint">The list could not be read yet.</p>}
      <NewConversation onCreate={props.onSelect} />
    </nav>
  );
}

function NewConversation({ onCreate }: { onCreate: (id: string) => void }) {
  const [text, setText] = useState("");
  const id = text.trim().toLowerCase().replace(/\s+/g, "-");
  const valid = conversationPattern.test(id);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!valid) return;
    onCreate(id);
    setText("");
  };
  return (
    <form className="new-conversation" onSubmit={submit}>
      <input
        aria-label="New conversation"
        aria-invalid={text !== "" && !valid}
        placeholder="New conversation"
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
