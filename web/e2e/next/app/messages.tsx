"use client";

import { useQuery } from "@connectrpc/connect-query";
import { useContext, useSyncExternalStore } from "react";
import { input, list } from "./live";
import { QueriesContext } from "./providers";

export function Messages() {
  const { data } = useQuery(list, input);
  const queries = useContext(QueriesContext);
  const freshness = useSyncExternalStore(
    (changed) => queries!.onChange(changed),
    () => queries!.report()[0]?.freshness ?? "unknown",
    () => "rendered",
  );
  return (
    <main>
      <p role="status">{freshness}</p>
      <ul>
        {data?.messages.map(({ name, body }) => (
          <li key={name}>{body}</li>
        ))}
      </ul>
    </main>
  );
}
