import type { Frame } from "@freshet/query";
import { useFreshet } from "@freshet/query/react";
import { useEffect, useState } from "react";

interface Entry {
  readonly key: number;
  readonly at: Date;
  readonly frame: Frame;
}

const kept = 40;
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

export function StreamPanel({ conversation }: { conversation: string }) {
  const freshet = useFreshet();
  const [entries, setEntries] = useState<readonly Entry[]>([]);
  useEffect(() => {
    let key = 0;
    return freshet.onFrame((frame) => {
      const entry = { key: key++, at: new Date(), frame };
      setEntries((list) => [entry, ...list].slice(0, kept));
    });
  }, [freshet]);

  return (
    <aside className="stream" aria-label="The stream">
      <details open={window.matchMedia("(min-width: 70rem)").matches}>
        <summary className="label">The stream</summary>
        <p className="hint">
          What <code>GET /events?topic=messages</code> says: which topics changed, up to which
          revision. Never a row: the page reads again.
        </p>
        <ol className="log" aria-label="Events, newest first">
          {entries.map(({ key, at, frame }) => (
            <li key={key} data-type={frame.type}>
              <time dateTime={at.toISOString()}>{clock.format(at)}</time>
              <b>{frame.type}</b>
              <code title={frame.revision}>{frame.revision?.replace(/^(\w+)-0*(?=\w)/, "$1-") ?? "…"}</code>
              <span className="detail">{detail(frame)}</span>
            </li>
          ))}
        </ol>
        <h3 className="label">Behind the API’s back</h3>
        <p className="hint">
          A row written by any SQL client shows up here all the same. With the private Postgres of{" "}
          <code>make run</code>, from its folder:
        </p>
        <pre className="sql" tabIndex={0} aria-label="A command for your terminal">
          <code>{`psql -h "$(sed -n 5p .freshet/postgres/postmaster.pid)" \\
  -U postgres freshet -c "insert into messages
    (conversation, author, body) values
    ('${conversation}', 'psql', 'by SQL')"`}</code>
        </pre>
      </details>
    </aside>
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
