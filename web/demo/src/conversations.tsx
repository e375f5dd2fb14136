import { useState, type FormEvent } from "react";
import { useConversations } from "./messages.js";
import { conversationPattern, selectConversation } from "./ui-store.js";

export function Conversations(props: { selected: string }) {
  const { data, isError } = useConversations();
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
              <span className="count">
                {c.count}
                <span className="unseen"> messages</span>
              </span>
            </a>
          </li>
        ))}
      </ul>
      {isError && !data && <p className="hint">The list could not be read yet.</p>}
      <NewConversation />
    </nav>
  );
}

function NewConversation() {
  const [text, setText] = useState("");
  const id = text.trim().toLowerCase().replace(/\s+/g, "-");
  const valid = conversationPattern.test(id);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!valid) return;
    selectConversation(id);
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
