import type { QueryReport } from "@freshet/query/tanstack";
import { short } from "./short.js";
import { useReport } from "./use-picture.js";

export function QueryTable() {
  const report = useReport();
  return (
    <>
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Queries">
        <table>
          <thead>
            <tr>
              <th scope="col">query</th>
              <th scope="col" title="the highest revision told of its topics">need</th>
              <th scope="col" title="at-least of the request under way">asked</th>
              <th scope="col" title="up to here the data on show is complete">have</th>
            </tr>
          </thead>
          <tbody>
            {report.map((query) => (
              <Row key={JSON.stringify(query.queryKey)} query={query} />
            ))}
          </tbody>
        </table>
      </div>
      <p className="hint">
        While <b>have</b> is below <b>need</b> it is read again, at least <b>need</b>.
      </p>
    </>
  );
}

function Row({ query }: { query: QueryReport }) {
  const { need, asked, have, fresh, freshness, watched, phase, topics } = query;
  const flying = phase === "flying";
  const [method, of] = nameOf(query);
  const state = flying ? "reading" : fresh || watched ? freshness : "marked";
  return (
    <tr data-state={state}>
      <th scope="row" title={topics.join("\n")}>
        {method}
        <small>{[of, state, !watched && "not on show"].filter(Boolean).join(" · ")}</small>
      </th>
      <td title={need}>{short(need)}</td>
      <td title={asked}>{flying && !asked ? "strong" : short(asked)}</td>
      <td title={have}>{short(have)}</td>
    </tr>
  );
}

/** Of one of connect-query's keys: the method, and what it reads. */
function nameOf({ queryKey }: QueryReport): [method: string, of: string | undefined] {
  const [, key] = queryKey as [unknown, { methodName?: string; input?: Record<string, unknown> } | undefined];
  const { parent = "", name = parent, pageSize } = key?.input ?? {};
  const conversation = /^conversations\/([^/]+)/.exec(String(name))?.[1];
  const of = [conversation && `#${conversation}`, pageSize && `${String(pageSize)} at most`];
  return [key?.methodName ?? "query", of.filter(Boolean).join(" · ")];
}
