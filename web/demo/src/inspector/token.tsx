import { session } from "../session.js";
import { useSession } from "../use-session.js";
import { useCountdown } from "./use-countdown.js";

/** The token's life: renewed while it is good, so that the stream goes on. */
export function Token() {
  const state = useSession();
  const left = useCountdown(state?.expiresAt ?? 0);
  if (!session || !state?.account) return null;
  const { account, lifeMs, renewals, failed } = state;
  return (
    <div className="controls">
      <p>
        <span data-renewals={renewals}>
          {account.name}’s token is good for {left} s of {Math.round(lifeMs / 1000)} s. Renewed{" "}
          {renewals === 1 ? "once" : `${renewals} times`}.
        </span>
      </p>
      <p>
        <button type="button" onClick={() => void session!.renew()}>
          Renew now
        </button>
        <span className="hint">
          {failed ? "It could not be renewed: tried again soon." : "The next stream opens before the old one ends: no refetch."}
        </span>
      </p>
    </div>
  );
}
