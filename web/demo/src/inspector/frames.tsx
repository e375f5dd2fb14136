import type { Frame } from "@freshet/query";
import type { Seen } from "../trace.js";
import { short } from "./short.js";

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

export function Frames({ frames }: { frames: readonly Seen[] }) {
  return (
    <>
      <p className="hint">Which topics changed, up to which revision. Never a row: the page reads again.</p>
      <ol className="log" aria-label="Events, newest first" tabIndex={0}>
        {frames.map(({ number, at, frame }) => (
          <li key={number} data-type={frame.type}>
            <time dateTime={new Date(at).toISOString()}>{clock.format(at)}</time>
            <b>{frame.type}</b>
            <code title={frame.revision}>{short(frame.revision)}</code>
            <span className="detail">{detail(frame)}</span>
          </li>
        ))}
      </ol>
    </>
  );
}

function detail(frame: Frame): string {
  switch (frame.type) {
    case "invalidate":
      return frame.topics.join(", ");
    case "ready":
      return "every later change will be told";
    case "reset":
      return `another history (${frame.reason})`;
    case "frontier":
      return frame.lagMs > 0 ? `${frame.lagMs} ms behind` : "nothing untold";
  }
}
