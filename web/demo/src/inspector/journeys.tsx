import type { Journey } from "../trace.js";
import { ms, short } from "./short.js";

const kept = 8;

/** One bar per notice, all on one scale. */
export function Journeys({ journeys }: { journeys: readonly Journey[] }) {
  const shown = journeys.slice(0, kept);
  const scale = Math.max(20, ...shown.map(length));
  if (shown.length === 0) return <p className="hint">Nothing has changed since this page was opened.</p>;
  return (
    <>
      <p className="hint key">
        <span data-part="told">commit → notice</span>
        <span data-part="read">notice → data on show</span>
      </p>
      <ol className="journeys" aria-label="Notices, newest first">
        {shown.map((journey) => (
          <Bar key={journey.number} journey={journey} scale={scale} />
        ))}
      </ol>
    </>
  );
}

/** To the notice: undefined where the row that tells its time is gone. */
function toldAfter({ committedAt, toldAt }: Journey): number | undefined {
  return committedAt === undefined ? undefined : Math.max(0, toldAt - committedAt);
}

function freshAfter({ toldAt, freshAt }: Journey): number | undefined {
  return freshAt === undefined ? undefined : freshAt - toldAt;
}

function length(journey: Journey): number {
  return (toldAfter(journey) ?? 0) + (freshAfter(journey) ?? 0);
}

function Bar({ journey, scale }: { journey: Journey; scale: number }) {
  const told = toldAfter(journey);
  const fresh = freshAfter(journey);
  const early = journey.askedAt !== undefined && journey.askedAt < journey.toldAt;
  const width = (part: number | undefined) => ({ width: `${((part ?? 0) / scale) * 100}%` });
  return (
    <li>
      <code title={`${journey.revision}\n${journey.topics.join("\n")}`}>{short(journey.revision)}</code>
      <span className="track" aria-hidden="true">
        <span data-part="told" style={width(told)} />
        <span data-part="read" style={width(fresh)} />
      </span>
      <span className="latency">
        {told === undefined ? "" : `told ${ms(told)} · `}
        {fresh === undefined ? "reading…" : early && fresh < 1 ? "read before" : `read ${ms(fresh)}`}
      </span>
    </li>
  );
}
