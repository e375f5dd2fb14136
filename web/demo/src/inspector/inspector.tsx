import { FreshetPanel } from "@freshet/devtools/react";
import { useEffect, useRef, type ReactNode } from "react";
import { devtools } from "../live.js";
import { session } from "../session.js";
import { showInspector } from "../ui-store.js";
import { Controls } from "./controls.js";
import { Psql } from "./psql.js";
import { Token } from "./token.js";

interface Props {
  readonly shown: boolean;
  /** It is all that there is to see, for now. */
  readonly covers: boolean;
  readonly conversation: string;
}

/** Looks into the page: what the stream says, and what becomes of it. */
export function Inspector({ shown, covers, conversation }: Props) {
  const Landmark = covers ? "main" : "aside";
  return (
    <Landmark id="inspector" className="inspector" aria-label="Inspector" hidden={!shown}>
      {covers && <h1 className="unseen">Inspector</h1>}
      {shown && <Panel covers={covers} conversation={conversation} />}
    </Landmark>
  );
}

function Panel({ covers, conversation }: Omit<Props, "shown">) {
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // Where it covers the page it is where one goes on reading; and Escape leads back.
    if (covers) panel.current?.focus();
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !panel.current?.contains(document.activeElement)) return;
      showInspector(false);
      document.getElementById("inspector-toggle")?.focus();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [covers]);

  return (
    <div className="panel" ref={panel} tabIndex={-1}>
      <Section title="Try to break it">
        <Controls conversation={conversation} />
      </Section>
      {session && (
        <Section title="The token">
          <Token />
        </Section>
      )}
      <FreshetPanel className="looks" devtools={devtools} />
      <Section title="Behind the API’s back">
        <Psql conversation={conversation} />
      </Section>
    </div>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section>
      <h2 className="label">{title}</h2>
      {children}
    </section>
  );
}
