import { useSyncExternalStore } from "react";
import { Conversations } from "./conversations.js";
import { Inspector } from "./inspector/inspector.js";
import { Room } from "./room.js";
import { StatusPill } from "./status-pill.js";
import { addressOf, showInspector, useUi } from "./ui-store.js";
import { Who } from "./who.js";

/** On a phone the inspector covers the page: nothing below it takes the focus. */
const phone = matchMedia("(max-width: 44rem)"); // as in narrow.css
const isNarrow = () => phone.matches;

function onResize(listener: () => void): () => void {
  phone.addEventListener("change", listener);
  return () => phone.removeEventListener("change", listener);
}

export function App() {
  const conversation = useUi((ui) => ui.conversation);
  const inspector = useUi((ui) => ui.inspector);
  const covered = useSyncExternalStore(onResize, isNarrow) && inspector;
  return (
    <div className={inspector ? "app inspected" : "app"}>
      <header className="top">
        <div className="bar">
          <a className="brand" href={addressOf("general")}>
            <img src="/favicon.svg" alt="" width="26" height="26" />
            <span>Freshet</span>
          </a>
          <StatusPill />
          <button
            type="button"
            id="inspector-toggle"
            aria-expanded={inspector}
            aria-controls="inspector"
            onClick={() => showInspector(!inspector)}
          >
            Inspector
          </button>
        </div>
        <Who />
      </header>
      <div className="under" inert={covered}>
        <Conversations selected={conversation} />
        <Room key={conversation} conversation={conversation} />
      </div>
      <Inspector shown={inspector} covers={covered} conversation={conversation} />
    </div>
  );
}
