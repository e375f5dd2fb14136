import type { QueryReport } from "@freshet/query/tanstack";
import { concerns, type Cause } from "./cause.js";
import { short, type Make } from "./dom.js";

/** The rows of the table of queries. */
export function queryRows(make: Make, report: readonly QueryReport[], causes: readonly Cause[]): HTMLElement[] {
  return report.map((query) => {
    const { need, asked, have, fresh, freshness, watched, phase, topics, queryKey } = query;
    const flying = phase === "flying";
    const [name, of] = nameOf(queryKey);
    const cause = causes.find((each) => concerns(each, topics));
    const state = flying ? "reading" : fresh || watched ? freshness : "marked";
    return make(
      "tr",
      { "data-state": state },
      make(
        "th",
        { scope: "row", title: topics.join("\n") },
        name,
        make("small", {}, [state, !watched && "not on show", of].filter(Boolean).join(" · ")),
        cause && make("small", { class: "why", title: `${cause.topic ?? cause.pattern}\n${cause.revision ?? ""}` }, `last change: ${cause.text}`),
      ),
      make("td", { title: need }, short(need)),
      make("td", { title: asked }, flying && !asked ? "strong" : short(asked)),
      make("td", { title: have }, short(have)),
    );
  });
}

/** Of one of connect-query's keys the method, and what it asks for; of another, the key. */
export function nameOf(queryKey: readonly unknown[]): [name: string, of: string | undefined] {
  const [, key] = queryKey as [unknown, { methodName?: unknown; input?: object } | undefined];
  if (typeof key?.methodName !== "string") {
    return [queryKey.map((part) => (typeof part === "string" ? part : text(part))).join(" / "), undefined];
  }
  const input = Object.entries(key.input ?? {}).filter(([name, value]) => name !== "$typeName" && value !== "" && value !== 0);
  return [key.methodName, input.map(([name, value]) => `${name}: ${typeof value === "string" ? value : text(value)}`).join(", ")];
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? String(part) : part)) ?? String(value);
}
