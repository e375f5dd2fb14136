import { useEffect, useRef, type ReactNode } from "react";
import { session } from "../session.js";
import { showInspector } from "../ui-store.js";
import { Controls } from "./controls.js";
import { Frames } from "./frames.js";
import { Journeys } from "./journeys.js";
import { Psql } from "./psql.js";
import { QueryTable } from "./query-table.js";
import { Token } from "./token.js";
import { usePicture } from "./use-picture.js";

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
  const { frames, journeys, counts } = usePicture();
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
      <dl className="counts" aria-label="Since this page was opened">
        <Count name="notices" value={counts.notices} title="invalidate events heard" />
        <Count name="refetches" value={counts.refetches} title="fetches begun because a notice made data old" />
        <Count name="SQL run" value={counts.queries} title="reads that ran a query: Freshet-Cache: miss" />
        <Count
          name="SQL saved"
          value={counts.saved}
          title="reads that shared somebody’s query or were answered from what is proven unchanged: joined, hit"
        />
      </dl>
      <Section title="Try to break it">
        <Controls conversation={conversation} />
      </Section>
      {session && (
        <Section title="The token">
          <Token />
        </Section>
      )}
      <Section title="Queries">
        <QueryTable />
      </Section>
      <Section title="Commit → notice → refetch">
        <Journeys journeys={journeys} />
      </Section>
      <Section title="The stream">
        <Frames frames={frames} />
      </Section>
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

function Count({ name, value, title }: { name: string; value: number; title: string }) {
  return (
    <div title={title}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
