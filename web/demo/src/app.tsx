import { Conversations } from "./conversations.js";
import { Inspector } from "./inspector/inspector.js";
import { Room } from "./room.js";
import { StatusPill } from "./status-pill.js";
import { showInspector, useUi } from "./ui-store.js";

export function App() {
  const conversation = useUi((ui) => ui.conversation);
  const inspector = useUi((ui) => ui.inspector);
  return (
    <div className={inspector ? "app inspected" : "app"}>
      <header className="bar">
        <a className="brand" href="#general">
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
      </header>
      <Conversations selected={conversation} />
      <Room key={conversation} conversation={conversation} />
      <Inspector shown={inspector} conversation={conversation} />
    </div>
  );
}
