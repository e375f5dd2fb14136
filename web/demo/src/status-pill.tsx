import type { State } from "@freshet/query";
import { useFreshetStatus } from "@freshet/query/react";

const words: Record<State, string> = {
  idle: "Idle",
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  failed: "Refused",
  unauthenticated: "Signed out",
  closed: "Closed",
};

/** The bound above which the server itself stops answering from its cache. */
const maxLagMs = 5000;

export function StatusPill() {
  const { state, revision, lagMs, error } = useFreshetStatus();
  const behind = state === "live" && lagMs > maxLagMs;
  return (
    <div className="status">
      {revision && (
        <code className="revision" title="The last revision heard: all up to here has been told">
          {revision}
        </code>
      )}
      <span className="pill" data-state={behind ? "behind" : state} role="status" title={error?.message}>
        <span className="dot" aria-hidden="true" />
        {behind ? `Behind by ${Math.round(lagMs / 1000)} s` : words[state]}
      </span>
    </div>
  );
}
